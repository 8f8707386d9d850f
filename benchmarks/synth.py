"""Synthesis of each environment in a fresh interpreter, beside that of an app with one empty stack.

With bytecode present and the CDK's built-in validator off: what a developer waits for. The baseline starts
the same interpreter, the same packages and the same Node.js process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import parts
from benchmarks.common import Document, Options, Result, document, main, paired_ratio, percentiles

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ("local", "dev", "staging", "prod", "prod-reference", "dr")
BARE = "an app with one empty stack"
_START = """
import sys
from pathlib import Path
from cdk.node import use_packaged_node
use_packaged_node()
outdir = Path(sys.argv[1])
"""
_BARE = (
    _START
    + """
from aws_cdk import App, Stack
app = App(outdir=str(outdir), analytics_reporting=False, builtin_cloud_formation_validation=False)
Stack(app, "Empty")
app.synth()
"""
)
_REAL = (
    _START
    + """
from cdk.build import build, served_document
from cdk.constructs.code import Code
from cdk.environments import load
build(load(sys.argv[2]), code=Code.stub(), document=served_document(), outdir=outdir).synth()
"""
)


def run(given: Mapping[str, object] | None = None) -> Document:
    """The document. Options ``quick`` and ``data``."""
    options = Options.of(given or {})
    names, rounds = (("local",), 1) if options.quick else (ENVIRONMENTS, 5)
    with parts.folder(options) as home:
        results, sizes = [], {}
        for name in names:
            if not options.quick:
                _synthesise(home, _REAL, name)  # writes the bytecode of our own modules
            mine, bare = [], []
            for _ in range(rounds):
                mine.append(_synthesise(home, _REAL, name))
                bare.append(_synthesise(home, _BARE, name))
            sizes[name] = _resources(home / name)
            results.append(
                Result(
                    f"synthesis of {name}",
                    statistics.median(mine),
                    "s",
                    BARE,
                    statistics.median(bare),
                    paired_ratio(mine, bare),
                    rounds,
                    *percentiles(mine),
                )
            )
    return document("synth", results, resources=sizes)


def _synthesise(home: Path, code: str, name: str) -> float:
    """Seconds from the start of the interpreter to its end."""
    target = home / (name if code == _REAL else "bare")
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, str(target), name],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "HOME": os.environ["HOME"],
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'layers/core/python'}",
        },
        capture_output=True,
        check=False,
    )
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return seconds


def _resources(assembly: Path) -> int:
    templates = (json.loads(f.read_text(encoding="utf-8")) for f in assembly.glob("*.template.json"))
    return sum(len(t["Resources"]) for t in templates)


if __name__ == "__main__":
    main(run)
