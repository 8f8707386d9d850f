"""Build what AWS runs: three layers and one directory per function, and what containers add, without Docker.

``build/<architecture>/layers/core`` is the library without its command line; ``dependencies`` are the locked
packages for the architecture and Python of AWS; ``migrate`` is what only that function needs;
``functions/<name>`` is one handler; ``services`` are the programs of containers with what Lambda's runtime
would bring. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from qis.adapters.postgres.connection import RDS_CA_BUNDLE
from qis.settings import FUNCTIONS

ROOT = Path(__file__).resolve().parents[1]
RUNTIME = "3.13"
PLATFORMS = {"arm64": "aarch64-manylinux_2_28", "x86_64": "x86_64-manylinux_2_28"}
MACHINES = {"arm64": ("aarch64", "arm64"), "x86_64": ("x86_64", "AMD64")}
"""On which machines packages of an architecture can be imported."""
LIMIT_MB = 60
"""Unzipped, a function and its layers together. AWS allows 250; a cold start reads what is there."""

_IN_RUNTIME = ("botocore", "dateutil", "python_dateutil", "six", "urllib3")
"""AWS's runtime brings boto3 with these; botocore alone is 29 MB."""
_BUILD_ONLY = ("cffi", "pycparser", "bin", "wrapt-stubs")
"""Needed to compile extensions, or to check types; nothing imports them at run time."""
_DIST_INFO_KEPT = ("METADATA", "entry_points.txt", "licenses")
"""Versions and entry points are read at run time; licences must travel with the code."""
_EPOCH = 315_532_800  # 1980-01-01, the first day that a zip file can hold


class PackagingError(RuntimeError):
    """The code cannot be packaged; the message says what is missing or too big."""


def build_core(target: Path) -> None:
    """The library ``qis`` with its migrations and documents, without the command line, and the certificates
    of RDS and of its proxy, which only AWS needs, where the library looks for them."""
    source = ROOT / "layers" / "core" / "python" / "qis"
    _copy(source, target / "python" / "qis", lambda path: path.relative_to(source).parts[0] != "cli")
    trusted = [ROOT / "scripts" / name for name in ("rds-global-bundle.pem", "amazon-root-cas.pem")]
    bundle = target / Path(RDS_CA_BUNDLE).relative_to("/opt")
    bundle.write_bytes(b"".join(path.read_bytes() for path in trusted))


def build_function(name: str, target: Path) -> None:
    """One handler as ``lambdas.<name>.handler``.

    Raises:
        PackagingError: there is no such handler.
    """
    source = ROOT / "lambdas"
    if not (source / name / "handler.py").is_file():
        raise PackagingError(f"lambdas/{name}/handler.py does not exist")
    _copy(source, target / "lambdas", lambda path: path.relative_to(source).parts[0] in (name, "__init__.py"))


def build_services(target: Path, architecture: str) -> None:
    """The programs of the containers, and AWS's own clients, which no runtime brings there.

    Raises:
        PackagingError: see ``build_packages``.
    """
    build_packages(ROOT / "requirements" / "services.txt", target, architecture, left_out=_BUILD_ONLY)
    _copy(ROOT / "services", target / "python" / "services", lambda path: path.suffix == ".py")


def build_packages(
    lock: Path, target: Path, architecture: str, *, left_out: tuple[str, ...] | None = None
) -> None:
    """The locked packages for AWS's Python and ``architecture``, from wheels only, hashes checked.

    Args:
        left_out: packages that are not wanted; those that Lambda brings or that only build, if not said.

    Raises:
        PackagingError: a package has no wheel for it, or a hash differs.
    """
    python = target / "python"
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(python)]
    command += ["--python-platform", PLATFORMS[architecture], "--python-version", RUNTIME]
    command += ["--only-binary", ":all:", "--require-hashes", "--requirement", str(lock)]
    if subprocess.run(command, check=False).returncode != 0:  # noqa: S603 -- our own command line
        raise PackagingError(f"{lock.name} could not be installed for {PLATFORMS[architecture]}")
    unwanted = (*_IN_RUNTIME, *_BUILD_ONLY) if left_out is None else left_out
    for path in sorted(python.iterdir()):
        name = path.name.partition("-")[0].partition(".")[0]
        if name in unwanted or path.name in unwanted:
            _remove(path)
        elif path.suffix == ".dist-info":
            for entry in path.iterdir():
                if entry.name not in _DIST_INFO_KEPT:
                    _remove(entry)
    for tests in sorted(p for p in python.rglob("tests") if p.is_dir()):
        _remove(tests)


def compile_bytecode(interpreter: str, target: Path, place: str) -> None:
    """Ship bytecode, or each cold start compiles again: ``place``, where Lambda unpacks it, cannot be written
    to. Unchecked, so that the times of files do not matter; the hash seed is fixed, so that the bytes are
    the same each time."""
    command = [interpreter, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(target), "-p", place, str(target)]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": "0"})  # noqa: S603 -- as above


def python_of_runtime() -> str | None:
    """An interpreter of AWS's minor version on this machine, if there is one: on the path, or of pyenv, whose
    commands on the path answer only for versions that are switched on."""
    name = f"python{RUNTIME}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    places = [Path(folder) for folder in os.get_exec_path()] + sorted(pyenv.glob(f"{RUNTIME}.*/bin"))
    for found in (place / name for place in places if (place / name).is_file()):
        answer = subprocess.run([str(found), "--version"], capture_output=True, text=True, check=False)  # noqa: S603
        if answer.stdout.startswith(f"Python {RUNTIME}."):
            return str(found)
    return None


def import_handlers(interpreter: str, parts: dict[str, Path]) -> None:
    """Import every handler as Lambda would: in an interpreter that has nothing but our packages and what
    AWS's runtime brings.

    Raises:
        PackagingError: one cannot be imported; the message has the error.
    """
    layers = [parts[f"layers/{name}"] / "python" for name in ("core", "dependencies", "migrate")]
    with tempfile.TemporaryDirectory() as runtime:
        for brought in ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3"):
            origin = importlib.util.find_spec(brought)
            assert origin is not None, f"{brought} is installed with boto3"
            assert origin.origin is not None, f"{brought} is a package"
            source = Path(origin.origin)
            source = source.parent if source.name == "__init__.py" else source
            (Path(runtime) / source.name).symlink_to(source)
        found = {
            f"lambdas.{name}.handler": [parts[f"functions/{name}"], *layers, runtime] for name in FUNCTIONS
        }
        found["services.relay"] = [parts["services"] / "python", *layers[:2]]  # which has no runtime
        for name, places in found.items():
            path = os.pathsep.join(map(str, places))
            command = [interpreter, "-P", "-S", "-B", "-c", f"import {name}, boto3"]
            run = subprocess.run(  # noqa: S603 -- our own command line
                command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=False
            )
            if run.returncode != 0:
                raise PackagingError(f"{name} cannot be imported from its packages:\n{run.stderr}")


def digest(target: Path) -> str:
    """Digest over names and bytes of all files below ``target``."""
    total = hashlib.sha256()
    for path in _files(target):
        total.update(f"{path.relative_to(target)}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def size_mb(targets: Iterable[Path]) -> float:
    """Size of all files below ``targets`` in MB."""
    return sum(path.stat().st_size for target in targets for path in _files(target)) / 1_000_000


def build(architecture: str, interpreter: str | None) -> dict[str, Path]:
    """Build everything anew and give the directory of each part."""
    out = ROOT / "build" / architecture
    _remove(out)
    parts = {f"layers/{name}": out / "layers" / name for name in ("core", "dependencies", "migrate")}
    parts |= {f"functions/{name}": out / "functions" / name for name in FUNCTIONS}
    parts["services"] = out / "services"
    for name, target in parts.items():
        kind, _, what = name.partition("/")
        if kind == "functions":
            build_function(what, target)
        elif kind == "services":
            build_services(target, architecture)
        elif what == "core":
            build_core(target)
        else:
            lock = {"dependencies": "lambda.txt", "migrate": "migrate.txt"}[what]
            build_packages(ROOT / "requirements" / lock, target, architecture)
        if interpreter:
            compile_bytecode(interpreter, target, "/var/task" if kind == "functions" else "/opt")
        for path in (*target.rglob("*"), target):
            os.utime(path, (_EPOCH, _EPOCH))
    return parts


def main(argv: list[str] | None = None) -> int:
    """Build, report sizes; 1 when something is missing or too big."""
    parser = argparse.ArgumentParser(description="Build the Lambda layers and functions into build/.")
    parser.add_argument("--architecture", choices=sorted(PLATFORMS), default="arm64")
    parser.add_argument("--python", default=python_of_runtime(), help=f"interpreter {RUNTIME}, for bytecode")
    arguments = parser.parse_args(argv)
    try:
        parts = build(arguments.architecture, arguments.python)
        if arguments.python and platform.machine() in MACHINES[arguments.architecture]:
            import_handlers(arguments.python, parts)
    except PackagingError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for name, target in parts.items():
        sys.stdout.write(f"{name:24} {size_mb([target]):7.1f} MB  {digest(target)[:16]}\n")
    largest = size_mb(target for name, target in parts.items() if name.startswith("layers/"))
    sys.stdout.write(f"{'largest function':24} {largest:7.1f} MB of {LIMIT_MB} MB\n")
    if not arguments.python:
        sys.stdout.write(f"without bytecode: no python{RUNTIME} here (--python PATH names one)\n")
    if largest > LIMIT_MB:
        sys.stderr.write(f"the layers are larger than {LIMIT_MB} MB\n")
        return 1
    return 0


def _copy(source: Path, target: Path, wanted: Callable[[Path], bool]) -> None:
    for path in _files(source):
        if "__pycache__" not in path.parts and wanted(path):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _files(target: Path) -> list[Path]:
    return sorted(path for path in target.rglob("*") if path.is_file())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
