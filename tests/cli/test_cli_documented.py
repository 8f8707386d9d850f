"""The commands that README, guide and runbooks show are there, with the options that they are shown with."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_system import RunCli

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
CODE = re.compile(r"```[a-z]*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
PATTERN = re.compile(r"[…·|\[\]$<>()]|\bor\b|\bCOMMAND\b")
"""What is in a description of commands and not in a command."""


def command_lines(page: Path) -> Iterator[str]:
    for block, words in CODE.findall(page.read_text(encoding="utf-8")):
        for line in (block or words).replace("\\\n", " ").splitlines():
            text = line.strip().removeprefix("$ ")
            if text.startswith("qis ") and not PATTERN.search(text.partition(" #")[0]):
                yield text.partition(" #")[0].strip()


LINES = sorted({line for page in PAGES for line in command_lines(page)})


def test_there_are_such_lines() -> None:
    assert len(LINES) > 50


@pytest.mark.parametrize("line", LINES)
def test_a_documented_command_is_one(run_cli: RunCli, line: str) -> None:
    done = run_cli(*shlex.split(line)[1:], "--help")
    assert done.status == 0, done.err
