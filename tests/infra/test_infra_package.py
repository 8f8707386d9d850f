"""What is packaged for AWS Lambda: our own part, which needs no index of packages."""

from __future__ import annotations

import importlib.util
import ssl
from pathlib import Path
from types import ModuleType

import pytest

from qis.adapters.postgres.connection import RDS_CA_BUNDLE

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
