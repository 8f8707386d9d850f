"""What is packaged for AWS Lambda: our own part, which needs no index of packages."""

from __future__ import annotations

import importlib.util
import ssl
import sys
from pathlib import Path
from types import ModuleType

import pytest

from qis.adapters.postgres.connection import RDS_CA_BUNDLE
from qis.settings import FUNCTIONS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def package() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("package_script", ROOT / "scripts" / "package.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_library_ships_its_migrations_and_not_its_command_line(
    package: ModuleType, tmp_path: Path
) -> None:
    package.build_core(tmp_path)
    qis = tmp_path / "python" / "qis"
    assert sorted((qis / "adapters" / "postgres" / "migrations").glob("*.sql"))
    assert (qis / "api" / "openapi.json").is_file()
    assert not (qis / "cli").exists()
    assert not list(tmp_path.rglob("__pycache__"))


def test_the_certificates_of_rds_are_where_the_library_looks(package: ModuleType, tmp_path: Path) -> None:
    package.build_core(tmp_path)
    bundle = tmp_path / Path(RDS_CA_BUNDLE).relative_to("/opt")
    trusted = ssl.create_default_context(cafile=str(bundle)).get_ca_certs()
    names = {str(certificate["subject"]) for certificate in trusted}
    assert len(trusted) > 60
    proxy = {name for name in names if "Amazon Root CA" in name}  # RDS Proxy has certificates of ACM
    assert len(proxy) == 4
    assert all("Amazon RDS" in name for name in names - proxy)
    assert any("us-east-1 Root CA RSA2048 G1" in name for name in names)


def test_a_function_ships_its_own_handler_only(package: ModuleType, tmp_path: Path) -> None:
    package.build_function("migrate", tmp_path)
    assert (tmp_path / "lambdas" / "migrate" / "handler.py").is_file()
    assert {p.name for p in (tmp_path / "lambdas").iterdir()} == {"__init__.py", "migrate"}


def test_a_function_without_handler_is_refused(package: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(package.PackagingError, match=r"lambdas/nothing/handler\.py does not exist"):
        package.build_function("nothing", tmp_path)


def test_the_same_source_gives_the_same_digest(package: ModuleType, tmp_path: Path) -> None:
    for name in ("one", "two"):
        package.build_core(tmp_path / name)
    assert package.digest(tmp_path / "one") == package.digest(tmp_path / "two")
    (tmp_path / "two" / "python" / "qis" / "py.typed").write_text("changed", encoding="utf-8")
    assert package.digest(tmp_path / "one") != package.digest(tmp_path / "two")
    assert 0 < package.size_mb([tmp_path / "one"]) < 5


def test_bytecode_is_of_aws_place_and_the_same_each_time(package: ModuleType, tmp_path: Path) -> None:
    """Where this machine has no interpreter of AWS's version, the running one shows the same."""
    interpreter = package.python_of_runtime() or sys.executable
    for name in ("one", "two"):
        package.build_core(tmp_path / name)
        package.compile_bytecode(interpreter, tmp_path / name, "/opt")
    assert package.digest(tmp_path / "one") == package.digest(tmp_path / "two")
    sources, compiled = (sorted((tmp_path / "one").rglob(f"*.{kind}")) for kind in ("py", "pyc"))
    assert len(compiled) == len(sources)
    assert b"/opt/python/qis/settings.py" in next(c for c in compiled if "settings" in c.name).read_bytes()
    assert all(c.read_bytes()[4] == 0b01 for c in compiled), "checked against the source at each import"


def test_a_handler_that_cannot_be_imported_from_its_packages_is_refused(
    package: ModuleType, tmp_path: Path
) -> None:
    parts = {f"layers/{name}": tmp_path / name for name in ("core", "dependencies", "migrate")}
    parts |= {f"functions/{name}": tmp_path / name for name in FUNCTIONS} | {"services": tmp_path}
    package.build_function("ingest", tmp_path / "ingest")
    with pytest.raises(
        package.PackagingError,
        match=r"lambdas\.ingest\.handler cannot be imported.*\n(.*\n)*.*aws_lambda_powertools",
    ):
        package.import_handlers(sys.executable, parts)
