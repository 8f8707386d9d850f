"""The CDK app: pick the environment, build it, write its templates.

``python app.py --env dev`` writes ``cdk.out/dev``. Under the CDK's own command the environment is a
context value: ``cdk deploy --all -c env=dev``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from pydantic import ValidationError

from cdk.environments import UnknownEnvironmentError, load
from cdk.node import use_packaged_node


def main(argv: list[str] | None = None) -> int:
    """Synthesise one environment; 2 when what was asked for is wrong, 1 when a check of it fails."""
    context = json.loads(os.environ.get("CDK_CONTEXT_JSON", "{}"))
    parser = argparse.ArgumentParser(
        prog="app.py", description="Write the CloudFormation of one environment."
    )
    parser.add_argument("--env", default=context.get("env"), help="required, or the context value `env`")
    parser.add_argument(
        "--code",
        choices=["built", "stub"],
        default=context.get("code", "built"),
        help="`stub` stands in for packaged code: to read a template, not to deploy it",
    )
    arguments = parser.parse_args(argv)
    try:
        settings = load(arguments.env)
    except (UnknownEnvironmentError, ValidationError) as error:
        sys.stderr.write(f"{error}\n")
        return 2

    use_packaged_node()
    from cdk.build import build, served_document
    from cdk.constructs.code import Code, NotPackagedError

    outdir = Path(os.environ.get("CDK_OUTDIR") or Path("cdk.out") / settings.name)
    try:
        code = Code.built(settings.architecture) if arguments.code == "built" else Code.stub()
    except NotPackagedError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    build(settings, code=code, document=served_document(), outdir=outdir, checked=True).synth()
    sys.stdout.write(f"{outdir}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
