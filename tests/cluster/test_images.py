"""Images brought into a node: lent, not copied, and never lost to a collection that runs meanwhile."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import threading

import pytest

from tools.cluster import containerd
from tools.images import load, store
from tools.steps import StepError, Steps

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

LAYERS = 12


def layer(number: int, name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(f"{name}-{number}")
        entry.size = 100_000
        tar.addfile(entry, io.BytesIO(bytes([number]) * entry.size))
    return buffer.getvalue()


@pytest.fixture
def image(tmp_path, monkeypatch, request):
    """Reference of an image of many layers in a cache of its own, another one for each test."""
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    pushed = tmp_path / "pushed"
    pushed.mkdir()

    def blob(content: bytes) -> dict:
        name = hashlib.sha256(content).hexdigest()
        (pushed / name).write_bytes(content)
        return {"digest": f"sha256:{name}", "size": len(content), "mediaType": store.LAYER_TYPE}

    layers = [blob(layer(number, request.node.name)) for number in range(LAYERS)]
    rootfs = {"type": "layers", "diff_ids": [each["digest"] for each in layers]}
    config = blob(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": {}}).encode())
    config["mediaType"] = "application/vnd.oci.image.config.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": store.MANIFEST_TYPE, "config": config, "layers": layers}
    (pushed / "manifest.json").write_text(json.dumps(manifest))
    return f"slipway.local/test@{store.add_directory(pushed)}"


def test_layers_are_lent_to_the_node_and_not_copied(running_cluster, image):
    load.into_embedded(running_cluster.layout, [image], Steps())
    assert image in containerd.ready_images(running_cluster.layout)
    digest = image.partition("@")[2]
    assert {store.blob(part).stat().st_nlink for part in store.layers(digest)} == {2}, "the cache's file and the node's"


def test_a_collection_that_runs_meanwhile_takes_nothing_of_an_image_on_its_way(running_cluster, image):
    """Every deletion makes containerd collect what nothing names."""
    over = threading.Event()

    def collect():
        number = 0
        while not over.is_set():
            number += 1
            containerd.ctr(running_cluster.layout, "leases", "create", "--id", f"test-{number}")
            containerd.ctr(running_cluster.layout, "leases", "delete", "--sync", f"test-{number}")

    collecting = threading.Thread(target=collect)
    collecting.start()
    try:
        for _ in range(10):
            load.into_embedded(running_cluster.layout, [image], Steps())
            assert image in containerd.ready_images(running_cluster.layout)
            containerd.ctr(running_cluster.layout, "images", "rm", "--sync", image)
    finally:
        over.set()
        collecting.join()


def test_an_image_whose_import_was_cut_short_is_imported_again(running_cluster, image):
    digest = image.partition("@")[2]
    with containerd.import_image(running_cluster.layout, unpack=False) as stream:
        load.write_archive(image, stream, skip=set(store.layers(digest)))
    assert image not in containerd.ready_images(running_cluster.layout)
    load.into_embedded(running_cluster.layout, [image], Steps())
    assert image in containerd.ready_images(running_cluster.layout)


def test_what_is_no_image_archive_is_refused_with_what_it_should_be(running_cluster, tmp_path):
    archive = tmp_path / "archive.tar"
    subprocess.run(["tar", "-cf", archive, "-C", tmp_path, "--files-from", "/dev/null"], check=True)
    with pytest.raises(StepError, match="OCI or Docker image archive"):
        containerd.load_image(running_cluster.layout, archive)
