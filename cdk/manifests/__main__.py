"""Write the manifests of every environment with a cluster."""

from __future__ import annotations

from cdk.environments import ENVIRONMENTS, load
from cdk.manifests.files import FOLDER, text


def main() -> None:
    """Write what is not current."""
    for name in ENVIRONMENTS:
        settings = load(name)
        if settings.cluster:
            (FOLDER / f"{name}.yaml").write_text(text(settings), encoding="utf-8")


main()
