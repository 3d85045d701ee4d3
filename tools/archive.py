"""Image archives made without a builder: one static binary on an empty file system."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = "65534:65534"


def add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file with that content to an archive, the same bytes at any time."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def scratch_image(archive: Path, reference: str, program: Path) -> None:
    """Write a Docker image archive that runs `program` as nobody; the same input gives the same bytes."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        entry = tarfile.TarInfo(program.name)
        entry.size, entry.mode = program.stat().st_size, 0o755
        with program.open("rb") as content:
            tar.addfile(entry, content)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    image = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": NOBODY},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": [f"{digest}.tar"]}]
    files = {
        "config.json": json.dumps(image).encode(),
        f"{digest}.tar": layer.getvalue(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    aside = archive.with_suffix(".new")
    with tarfile.open(aside, mode="w") as tar:
        for name, data in files.items():
            add_bytes(tar, name, data)
    aside.replace(archive)
