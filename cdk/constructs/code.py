"""Where the functions' code comes from: packaged for deployment, or a stand-in to read a template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qis.settings import FUNCTIONS

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"


class NotPackagedError(FileNotFoundError):
    """The code to deploy has not been built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Directories that become assets."""

    core: Path
    """The layer with the library ``qis``."""
    dependencies: Path
    """The layer with the packages that all functions need."""
    migrate: Path
    """The layer that only ``migrate`` needs."""
    functions: dict[str, Path]

    @classmethod
    def stub(cls) -> Code:
        """One small directory for everything; the template is complete but for the asset hashes."""
        stub = ROOT / "cdk" / "stub_asset"
        return cls(core=stub, dependencies=stub, migrate=stub, functions=dict.fromkeys(FUNCTIONS, stub))

    @classmethod
    def built(cls, architecture: str, *, build: Path = BUILD) -> Code:
        """What ``make package`` built for ``architecture``.

        Raises:
            NotPackagedError: a part is not there.
        """
        of = build / architecture
        code = cls(
            core=of / "layers" / "core",
            dependencies=of / "layers" / "dependencies",
            migrate=of / "layers" / "migrate",
            functions={name: of / "functions" / name for name in FUNCTIONS},
        )
        parts = [code.core, code.dependencies, code.migrate, *code.functions.values()]
        missing = [str(part.relative_to(of)) for part in parts if not part.is_dir()]
        if missing:
            raise NotPackagedError(
                f"not in {build.name}/{architecture}: {', '.join(missing)}; run `make package` first"
            )
        return code
