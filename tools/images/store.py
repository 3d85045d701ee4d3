"""The images of this machine: a store of blobs by digest, in the layout of OCI, in the cache."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

from tools import paths
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


def blob(digest: str) -> Path:
    """Path of a blob that is there; `StepError` where it is not."""
    path = _path(digest)
    if not path.exists():
        raise StepError(
            f"{digest}: not in {_root()} → an image built on this machine → `slipway images build` builds it"
        )
    return path


def has(digest: str) -> bool:
    """Whether an image's manifest and all that it names are there."""
    return _path(digest).exists() and all(_path(part).exists() for part in parts(digest))


def parts(digest: str) -> list[str]:
    """Digests of an image's configuration and layers."""
    return [_read(digest)["config"]["digest"], *layers(digest)]


def layers(digest: str) -> list[str]:
    """Digests of an image's layers, the lowest first."""
    return [layer["digest"] for layer in _read(digest)["layers"]]


def add_directory(directory: Path) -> str:
    """Take in what `buildah push … dir:` wrote; return the manifest's digest. Files are moved, not copied."""
    manifest = (directory / "manifest.json").read_bytes()
    for part in directory.iterdir():
        if len(part.name) == hashlib.sha256().digest_size * 2:
            part.replace(_prepared(f"sha256:{part.name}"))
    return _write(manifest)


def add_layout(directory: Path) -> str:
    """Take in an OCI layout with one image; return its manifest's digest. Files are moved, not copied."""
    index = json.loads((directory / "index.json").read_text())
    for part in (directory / "blobs" / "sha256").iterdir():
        part.replace(_prepared(f"sha256:{part.name}"))
    digest = str(index["manifests"][0]["digest"])
    nested = _read(digest)
    # With provenance attached, the builder wraps the image in an index of its own.
    return str(nested["manifests"][0]["digest"]) if "manifests" in nested else digest


def add_layer(base: str, folder: Path, target: str) -> str:
    """The image `base` with `folder` put at `target`: the same bytes for the same files, in milliseconds."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = tarfile.TarInfo(f"{target.strip('/')}/{path.relative_to(folder).as_posix()}")
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                tar.addfile(entry, content)
    layer = _write(buffer.getvalue())
    manifest, config = _read(base), _read(parts(base)[0])
    config["rootfs"]["diff_ids"].append(layer)
    config.setdefault("history", []).append({"created_by": f"slipway: {folder.name} at {target}"})
    config_bytes = json.dumps(config).encode()
    manifest["config"] |= {"digest": _write(config_bytes), "size": len(config_bytes)}
    manifest["layers"].append({"mediaType": LAYER_TYPE, "digest": layer, "size": len(buffer.getvalue())})
    return _write(json.dumps(manifest).encode())


def prune(kept: Iterable[str]) -> int:
    """Delete what none of these images has; the result is how many bytes that were."""
    needed = {_path(part) for digest in kept if has(digest) for part in (digest, *parts(digest))}
    freed = 0
    for path in sorted(_root().glob("sha256/*")):
        if path not in needed:
            freed += path.stat().st_size
            path.unlink()
    return freed


def _root() -> Path:
    return paths.cache() / "images" / "blobs"


def _path(digest: str) -> Path:
    return _root() / digest.replace(":", "/")


def _prepared(digest: str) -> Path:
    path = _path(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write(content: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    path = _prepared(digest)
    if not path.exists():
        paths.write_whole(path, content)
    return digest


def _read(digest: str) -> Any:
    return json.loads(blob(digest).read_text())
