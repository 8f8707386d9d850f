"""An image assembled without Docker is one that OCI tools read: digests, sizes, layers, the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import json
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "image.py"


@pytest.fixture(scope="module")
def image() -> ModuleType:
    spec = importlib.util.spec_from_file_location("image_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blob(layout: Path, content: bytes) -> dict[str, Any]:
    value = hashlib.sha256(content).hexdigest()
    path = layout / "blobs" / "sha256" / value
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"digest": f"sha256:{value}", "size": len(content)}


def base(folder: Path, architecture: str = "arm64") -> Path:
    """An image of one empty layer, for two platforms, as registries hold them."""
    layer = b"\0" * 1024
    entries = []
    for platform in (architecture, "s390x"):
        config = {
            "architecture": platform,
            "os": "linux",
            "config": {"Env": ["PATH=/usr/bin", "PYTHONPATH=/elsewhere"], "Cmd": ["python3"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                **blob(folder, json.dumps(config).encode()),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    **blob(folder, gzip.compress(layer)),
                }
            ],
        }
        entries.append(
            {
                "mediaType": manifest["mediaType"],
                "platform": {"architecture": platform, "os": "linux"},
                **blob(folder, json.dumps(manifest).encode()),
            }
        )
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return folder


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    made = []
    for part, name in (("core", "python/qis/__init__.py"), ("services", "python/services/relay.py")):
        path = tmp_path / part / name
        path.parent.mkdir(parents=True)
        path.write_text(f"# {part}\n")
        made.append(tmp_path / part)
    return made


def test_every_digest_and_size_is_that_of_what_is_there(
    image: ModuleType, tmp_path: Path, parts: list[Path]
) -> None:
    out = tmp_path / "out"
    digest = image.assemble(base(tmp_path / "base"), parts, out, workload="relay", architecture="arm64")

    def read(entry: dict[str, Any]) -> bytes:
        content = (out / "blobs" / entry["digest"].replace(":", "/")).read_bytes()
        assert len(content) == entry["size"]
        assert hashlib.sha256(content).hexdigest() == entry["digest"].removeprefix("sha256:")
        return content

    (entry,) = json.loads((out / "index.json").read_bytes())["manifests"]
    assert entry["digest"] == digest
    manifest = json.loads(read(entry))
    config = json.loads(read(manifest["config"]))
    plain = [gzip.decompress(read(layer)) for layer in manifest["layers"]]
    assert [f"sha256:{hashlib.sha256(p).hexdigest()}" for p in plain] == config["rootfs"]["diff_ids"]
    given = config["config"]
    assert given["Entrypoint"] == ["python", "-m", "services.relay"]
    assert given["User"] == "65532:65532"
    assert "Cmd" not in given
    assert set(given["Env"]) == {"PATH=/usr/bin", "PYTHONPATH=/opt/python", "PYTHONUNBUFFERED=1"}
    with tarfile.open(fileobj=io.BytesIO(plain[-1])) as archive:
        files = {m.name: m for m in archive.getmembers() if m.isfile()}
        assert set(files) == {"opt/python/qis/__init__.py", "opt/python/services/relay.py"}
        assert all((m.mode, m.uid, m.mtime) == (0o644, 0, 0) for m in files.values())
        assert "opt/python" in archive.getnames()


def test_the_same_parts_give_the_same_image(image: ModuleType, tmp_path: Path, parts: list[Path]) -> None:
    under = base(tmp_path / "base")
    digests = {
        image.assemble(under, parts, tmp_path / name, workload="relay", architecture="arm64")
        for name in ("one", "two", "two")
    }
    assert len(digests) == 1
    (parts[0] / "python" / "qis" / "__init__.py").write_text("# changed\n")
    changed = image.assemble(under, parts, tmp_path / "one", workload="relay", architecture="arm64")
    assert changed not in digests


def test_what_does_not_fit_is_refused_by_name(image: ModuleType, tmp_path: Path, parts: list[Path]) -> None:
    under = base(tmp_path / "base")

    def assemble(of: Path, given: list[Path], architecture: str = "arm64") -> None:
        image.assemble(of, given, tmp_path / "out", workload="relay", architecture=architecture)

    with pytest.raises(image.ImageError, match="has 0 images for amd64, not one"):
        assemble(under, parts, "x86_64")
    with pytest.raises(image.ImageError, match="is no OCI layout"):
        assemble(tmp_path, parts)
    with pytest.raises(image.ImageError, match="run `make package` first"):
        assemble(under, [tmp_path / "missing"])
    twin = tmp_path / "twin" / "python" / "qis" / "__init__.py"
    twin.parent.mkdir(parents=True)
    twin.write_text("# another\n")
    with pytest.raises(image.ImageError, match="is in two parts, and differs"):
        assemble(under, [*parts, tmp_path / "twin"])
    for path in (under / "blobs" / "sha256").iterdir():
        path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(image.ImageError, match="is damaged"):
        assemble(under, parts)
