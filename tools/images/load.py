"""Brings built images into a cluster: only the layers that its nodes do not have yet."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tools.archive import add_bytes
from tools.cluster import containerd
from tools.images import store
from tools.steps import StepError, Steps

if TYPE_CHECKING:
    from tools.cluster.layout import Layout


COPY_BYTES = 1024 * 1024
"""An archive is written in pieces of this size: layers of gigabytes pass through a pipe."""


def into_embedded(cluster: Layout, references: list[str], steps: Steps) -> None:
    """Import the images (`name@sha256:…`) that the embedded cluster's node lacks."""
    ready = containerd.ready_images(cluster)
    for reference in references:
        if reference in ready:
            continue
        with steps.step(f"load {reference.partition('@')[0]}", estimate=10):
            there = containerd.blobs(cluster)
            layers = {part: store.blob(part) for part in store.layers(reference.partition("@")[2]) if part not in there}
            with containerd.import_image(cluster, unpack=False) as stream:
                write_archive(reference, stream, skip=there | set(layers))
            held = containerd.lend(cluster, layers)
            with containerd.import_image(cluster) as stream:
                write_archive(reference, stream, skip=there | held)


def into_context(context: str, references: list[str], steps: Steps) -> None:
    """Import the images into a cluster of another tool, which the context's name tells (kind, k3d, minikube)."""
    kind, _, name = context.partition("-")
    commands = {
        "kind": ["kind", "load", "image-archive", "--name", name],
        "k3d": ["k3d", "image", "import", "--cluster", name],
        "minikube": ["minikube", "image", "load"],
    }
    if kind not in commands:
        raise StepError(
            f"context {context}: not a kind, k3d or minikube cluster → its nodes pull "
            "from a registry → push the images of "
            "`slipway images build` there and name them by digest in slipway:images"
        )
    if not shutil.which(kind):
        raise StepError(f"{kind}: not on PATH → it loads images into context {context} → install it or use a registry")
    for reference in references:
        with steps.step(f"load {reference.partition('@')[0]}", estimate=30), tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch, "image.tar")
            with archive.open("wb") as stream:
                write_archive(reference, stream)
            done = subprocess.run([*commands[kind], str(archive)], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise StepError(f"{' '.join(commands[kind])}: {done.stderr.strip()} → see `{kind}` for the remedy")


def write_archive(reference: str, stream: IO[bytes], skip: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Write an OCI archive of one image, without the blobs in `skip`, which the receiver has already."""
    digest = reference.partition("@")[2]
    manifest = store.blob(digest)
    entry: dict[str, Any] = {
        "mediaType": store.MANIFEST_TYPE,
        "digest": digest,
        "size": manifest.stat().st_size,
        # The very reference that pods name: by digest, so that nothing is looked up or pulled.
        "annotations": {"io.containerd.image.name": reference},
    }
    with tarfile.open(fileobj=stream, mode="w|", bufsize=COPY_BYTES) as tar:
        add_bytes(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        add_bytes(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
        # The manifest always travels: the importer reads the image from it.
        for part in dict.fromkeys([digest, *(part for part in store.parts(digest) if part not in skip)]):
            tar.add(store.blob(part), arcname=f"blobs/{part.replace(':', '/')}")
