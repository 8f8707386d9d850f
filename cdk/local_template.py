"""The committed template of environment ``local``: what the local twin is wired from.

``python -m cdk.local_template`` writes ``local/template.json`` anew; ``--check`` only compares.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdk.node import use_packaged_node

TEMPLATE = Path(__file__).resolve().parents[1] / "local" / "template.json"
_ASSET = re.compile(r"[0-9a-f]{64}")


def canonical(template: Mapping[str, Any]) -> str:
    """The template as text: keys sorted, hashes of assets masked, without what only the CDK reads."""
    text = json.dumps(template, indent=1, sort_keys=True, ensure_ascii=False)
    return _ASSET.sub("0" * 64, text) + "\n"


def synthesise(outdir: Path) -> str:
    """The canonical template of environment ``local``, with stand-ins for the code."""
    use_packaged_node()
    from cdk.build import build, served_document
    from cdk.constructs.code import Code
    from cdk.environments import load

    app = build(load("local"), code=Code.stub(), document=served_document(), outdir=outdir)
    return canonical(app.synth().get_stack_by_name("qis-local").template)


def main(argv: list[str] | None = None) -> int:
    """Write or check the committed template; 1 when it is not current."""
    parser = argparse.ArgumentParser(prog="python -m cdk.local_template", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as outdir:
        text = synthesise(Path(outdir))
    if not arguments.check:
        TEMPLATE.write_text(text, encoding="utf-8")
        return 0
    if TEMPLATE.read_text(encoding="utf-8") != text:
        sys.stderr.write(f"{TEMPLATE.name} is not current: run python -m cdk.local_template\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
