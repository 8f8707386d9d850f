"""Which metrics our code emits, read from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "layers" / "core" / "python" / "qis"

VALUES = {
    "AnswersNxx": ("Answers2xx", "Answers3xx", "Answers4xx", "Answers5xx"),
    "RecordsN": ("RecordsAccepted", "RecordsDuplicate", "RecordsRedelivered", "RecordsRejected"),
}
"""Names that the code puts together, with all that they can become."""


def emitted(function: str) -> set[str]:
    """Names of the metrics that ``function`` emits: those of its handler, and those that the library counts
    through a callback which the handler passes in."""
    handler = ast.parse((ROOT / "lambdas" / function / "handler.py").read_text(encoding="utf-8"))
    names = set(_names(handler, "add_metric"))
    if any(isinstance(n, ast.FunctionDef) and n.name == "_count" for n in ast.walk(handler)):
        for path in sorted(LIBRARY.rglob("*.py")):
            names |= set(_names(ast.parse(path.read_text(encoding="utf-8")), "_count"))
    return names


def _names(tree: ast.AST, method: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
            yield from _name(node.args[0] if node.args else _keyword(node))


def _keyword(node: ast.Call) -> ast.expr:
    return next(k.value for k in node.keywords if k.arg == "name")


def _name(argument: ast.expr) -> Iterator[str]:
    if isinstance(argument, ast.Constant):
        yield str(argument.value)
    elif isinstance(argument, ast.JoinedStr):
        parts = [p.value if isinstance(p, ast.Constant) else "N" for p in argument.values]
        yield from VALUES["".join(map(str, parts))]
    elif not isinstance(argument, ast.Name):  # a name is the parameter of the callback
        raise TypeError(f"cannot read a metric's name from {ast.unparse(argument)}")
