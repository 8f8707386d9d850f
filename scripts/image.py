"""Assemble the image of a workload of the cluster without Docker: the OCI layout of a base, our files on top.

The base is any OCI layout of Python 3.13 for the architecture, as ``crane pull --format=oci`` or ``skopeo
copy`` write it. Our layer is what ``make package`` built. The same input gives the same bytes, so that the
digest of an image says what is in it. ``crane push`` or ``skopeo copy`` send the result to ECR.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import shutil
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORKLOADS = {"relay": "services.relay"}
"""Program of each workload that there is."""
USER = "65532:65532"
"""As the manifests run it."""
PLATFORMS = {"arm64": "arm64", "x86_64": "amd64"}
PLACE = "opt"
"""Where Lambda unpacks layers, too, so that the bytecode shipped in them fits."""
_ENVIRONMENT = {"PYTHONPATH": "/opt/python", "PYTHONUNBUFFERED": "1"}
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class ImageError(ValueError):
    """The image cannot be assembled; the message says what is missing or does not fit."""


def assemble(base: Path, parts: Iterable[Path], out: Path, *, workload: str, architecture: str) -> str:
    """Write the image of ``workload`` to the OCI layout ``out``. Returns its digest.

    Args:
        parts: directories whose content comes to ``/opt``; one may not change a file of another.

    Raises:
        ImageError: the base is no OCI layout, or not for this architecture; a part is not there.
    """
    manifest = _manifest(base, PLATFORMS[architecture])
    config = json.loads(_blob(base, manifest["config"]["digest"]))
    if config.get("architecture") != PLATFORMS[architecture]:
        raise ImageError(f"the base is for {config.get('architecture')}, not for {PLATFORMS[architecture]}")
    if out.exists():
        shutil.rmtree(out)
    for layer in manifest["layers"]:
        _write(out, _blob(base, layer["digest"]))
    plain = _tar(parts)
    packed = gzip.compress(plain, mtime=0)
    manifest["layers"].append({"mediaType": _LAYER, "digest": _write(out, packed), "size": len(packed)})
    config["rootfs"]["diff_ids"].append(_digest(plain))
    config.setdefault("history", []).append({"created_by": f"qis {workload}"})
    given = dict(entry.split("=", 1) for entry in config["config"].get("Env", []))
    config["config"] |= {
        "User": USER,
        "Entrypoint": ["python", "-m", WORKLOADS[workload]],
        "Env": [f"{name}={value}" for name, value in (given | _ENVIRONMENT).items()],
        "WorkingDir": "/tmp",  # noqa: S108 -- the one place that a pod may write to
    }
    config["config"].pop("Cmd", None)
    body = _json(config)
    manifest["config"] = manifest["config"] | {"digest": _write(out, body), "size": len(body)}
    written = _json(manifest)
    digest = _write(out, written)
    entry = {"mediaType": manifest["mediaType"], "digest": digest, "size": len(written)}
    (out / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    (out / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [entry]}))
    return digest


def _manifest(base: Path, platform: str) -> dict[str, Any]:
    """The manifest of the base; of several platforms the wanted one."""
    if not (base / "index.json").is_file():
        raise ImageError(f"{base} is no OCI layout: it has no index.json")
    index = json.loads((base / "index.json").read_bytes())
    while "manifests" in index:
        of = [
            entry
            for entry in index["manifests"]
            if entry.get("platform", {}).get("architecture", platform) == platform
        ]
        if len(of) != 1:
            raise ImageError(f"the base has {len(of)} images for {platform}, not one")
        index = json.loads(_blob(base, of[0]["digest"]))
    found: dict[str, Any] = index
    return found


def _tar(parts: Iterable[Path]) -> bytes:
    """All files as root's, readable by everyone, at one time, by name."""
    files: dict[str, Path] = {}
    for part in parts:
        if not part.is_dir():
            raise ImageError(f"{part} is not there; run `make package` first")
        for path in part.rglob("*"):
            name = f"{PLACE}/{path.relative_to(part)}"
            if path.is_file() and files.setdefault(name, path).read_bytes() != path.read_bytes():
                raise ImageError(f"{name} is in two parts, and differs")
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w", format=tarfile.PAX_FORMAT) as archive:
        folders = {str(parent) for name in files for parent in Path(name).parents} - {"."}
        for name in sorted(folders | set(files)):
            entry = tarfile.TarInfo(name)
            if name in files:
                entry.size, entry.mode = files[name].stat().st_size, 0o644
                with files[name].open("rb") as content:
                    archive.addfile(entry, content)
            else:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
    return body.getvalue()


def _blob(layout: Path, digest: str) -> bytes:
    kind, _, value = digest.partition(":")
    content = (layout / "blobs" / kind / value).read_bytes()
    if _digest(content) != digest:
        raise ImageError(f"{digest} of the base is damaged")
    return content


def _write(layout: Path, content: bytes) -> str:
    digest = _digest(content)
    path = layout / "blobs" / digest.replace(":", "/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return digest


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(body: Any) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def main(argv: list[str] | None = None) -> int:
    """Assemble one image into ``build/``; 1 when it cannot be."""
    parser = argparse.ArgumentParser(description="Assemble the image of a workload of the cluster.")
    parser.add_argument("workload", choices=sorted(WORKLOADS))
    parser.add_argument("--base", type=Path, required=True, help="OCI layout of an image of Python 3.13")
    parser.add_argument("--architecture", choices=sorted(PLATFORMS), default="arm64")
    arguments = parser.parse_args(argv)
    built = ROOT / "build" / arguments.architecture
    parts = [built / "layers" / "core", built / "layers" / "dependencies", built / "services"]
    out = built / "images" / arguments.workload
    try:
        digest = assemble(
            arguments.base, parts, out, workload=arguments.workload, architecture=arguments.architecture
        )
    except (ImageError, FileNotFoundError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{out.relative_to(ROOT)}  {digest}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
