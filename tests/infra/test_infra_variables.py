"""Handlers read what their construct sets, and nothing besides."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from qis.settings import FUNCTIONS
from tests.infra.emitted import LIBRARY, ROOT

OF_LAMBDA = frozenset({"AWS_REGION"})
"""Set by the runtime itself."""


def variables_read(source: str) -> set[str]:
    """Names read from the environment one by one; ``*`` where it is handed on as a whole, but to ``read``."""
    tree = ast.parse(source)
    found: set[str] = set()
    handed_on = {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "read"
        for argument in node.args
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            found.add(str(ast.literal_eval(node.slice)))
            handed_on.add(id(node.value))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and ast.unparse(node) == "os.environ"
            and id(node) not in handed_on
        ):
            found.add("*")
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "os.getenv":
            found.add("*")
    return found


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_handler_reads_its_settings_class_and_what_lambda_sets(name: str) -> None:
    source = (ROOT / "lambdas" / name / "handler.py").read_text(encoding="utf-8")
    assert variables_read(source) <= OF_LAMBDA
    assert f"{FUNCTIONS[name].__name__}.read(os.environ)" in source


@pytest.mark.parametrize(
    "path", sorted(p for p in LIBRARY.rglob("*.py") if "cli" not in p.relative_to(LIBRARY).parts), ids=str
)
def test_the_library_reads_no_variable(path: Path) -> None:
    assert variables_read(path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("os.environ['X']", {"X"}),
        ("os.environ.get('X')", {"*"}),
        ("os.getenv('X')", {"*"}),
        ("Settings.read(os.environ)", set()),
        ("f(os.environ)", {"*"}),
    ],
)
def test_what_is_read_is_found(source: str, found: set[str]) -> None:
    assert variables_read(source) == found
