from __future__ import annotations

import hashlib
import json
import os
import tarfile

import pytest

from tools.images import build, store
from tools.images.load import write_archive
from tools.steps import StepError


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def base(tmp_path):
    """An image of one layer, as `buildah push … dir:` writes it."""
    pushed = tmp_path / "pushed"
    pushed.mkdir()

    def blob(content: bytes) -> str:
        name = hashlib.sha256(content).hexdigest()
        (pushed / name).write_bytes(content)
        return f"sha256:{name}"

    layer = blob(b"a layer")
    config = blob(json.dumps({"rootfs": {"type": "layers", "diff_ids": [layer]}, "config": {"User": "1"}}).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": store.MANIFEST_TYPE,
        "config": {"digest": config, "size": 1},
        "layers": [{"digest": layer, "size": 7, "mediaType": store.LAYER_TYPE}],
    }
    (pushed / "manifest.json").write_text(json.dumps(manifest))
    (pushed / "version").write_text("Directory Transport Version: 1.1\n")
    return store.add_directory(pushed)


@pytest.fixture
def code(tmp_path):
    folder = tmp_path / "services"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "module.py").write_text("print('hello')\n")
    return folder


def test_code_becomes_the_last_layer_and_the_rest_stays(base, code):
    image = store.add_layer(base, code, "/opt/slipway/services")
    config, *layers = store.parts(image)
    assert layers[:-1] == store.parts(base)[1:]
    described = json.loads(store.blob(config).read_text())
    assert described["config"] == {"User": "1"}, "what the image runs as must not change"
    assert described["rootfs"]["diff_ids"] == layers, "uncompressed layers have their own digest as id"
    with tarfile.open(store.blob(layers[-1])) as tar:
        assert tar.getnames() == ["opt/slipway/services/inner/module.py"]


def test_the_same_code_gives_the_same_image_and_other_code_another(base, code):
    first = store.add_layer(base, code, "/opt")
    (code / "inner" / "module.py").touch()
    assert store.add_layer(base, code, "/opt") == first, "the time of a file is not part of it"
    (code / "inner" / "module.py").write_text("print('other')\n")
    assert store.add_layer(base, code, "/opt") != first


def test_an_archive_carries_the_manifest_and_only_the_blobs_that_are_missing(base, code, tmp_path):
    image = store.add_layer(base, code, "/opt")
    known = set(store.parts(base)[1:])
    with (tmp_path / "image.tar").open("wb") as stream:
        write_archive(f"slipway.local/inference@{image}", stream, skip=known)
    with tarfile.open(tmp_path / "image.tar") as tar:
        names = {name.removeprefix("blobs/sha256/") for name in tar.getnames() if name.startswith("blobs/")}
        index = json.load(tar.extractfile("index.json"))
    assert names == {digest.removeprefix("sha256:") for digest in (image, *store.parts(image))} - {
        digest.removeprefix("sha256:") for digest in known
    }
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == f"slipway.local/inference@{image}"


def test_an_image_whose_layer_is_gone_is_not_there(base):
    assert store.has(base)
    store.blob(store.parts(base)[-1]).unlink()
    assert not store.has(base)
    with pytest.raises(StepError, match="slipway images build"):
        store.blob(store.parts(base)[-1])


def test_prune_deletes_what_no_kept_image_has_and_shared_layers_stay(base, code):
    image = store.add_layer(base, code, "/opt")
    own = set(store.parts(image)) - set(store.parts(base))
    freed = store.prune([base])
    assert store.has(base), "the layer that both have stays"
    assert freed > 0
    for digest in (image, *own):
        with pytest.raises(StepError):
            store.blob(digest)
    assert store.prune([base]) == 0


def test_prune_keeps_what_was_asked_for_lately_and_what_this_checkout_has_built(base, code, tmp_path, monkeypatch):
    images = tmp_path / "cache" / "images"
    recorded = store.add_layer(base, code, "/opt")
    (code / "inner" / "module.py").write_text("print('old')\n")
    forgotten = store.add_layer(base, code, "/opt")
    (tmp_path / "images.json").write_text(json.dumps({"inference": f"slipway.local/inference@{recorded}"}))
    monkeypatch.setattr(build, "RECORD", tmp_path / "images.json")
    removed = tmp_path / "removed"
    (tmp_path / "builder").write_text(f'#!/bin/sh\necho "$@" >> {removed}\n')
    (tmp_path / "builder").chmod(0o755)
    monkeypatch.setattr(build, "builder", lambda: str(tmp_path / "builder"))
    new, old = images / f"mlflow-{'a' * 16}", images / f"istio-proxy-{'b' * 16}"
    new.write_text(base)
    old.write_text(forgotten)
    os.utime(old, (0, 0))
    assert build.prune(days=1) > 0
    assert (new.exists(), old.exists()) == (True, False)
    assert (store.has(base), store.has(recorded)) == (True, True)
    with pytest.raises(StepError):
        store.blob(forgotten)
    assert removed.read_text() == f"rmi slipway.local/istio-proxy:{'b' * 16}\n"
