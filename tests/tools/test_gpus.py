from __future__ import annotations

import pytest

from tools.cluster.components import components
from tools.cluster.gpus import Gpus, advertise
from tools.cluster.layout import Layout
from tools.cluster.settings import Settings
from tools.steps import StepError


class NodeThatForgets:
    """A node of the API; it can lose what was patched, as a kubelet that starts anew makes it."""

    def __init__(self):
        self.labels = {"kubernetes.io/hostname": "node"}
        self.capacity = {"cpu": "2"}

    def get(self):
        return {"metadata": {"labels": dict(self.labels)}, "status": {"capacity": dict(self.capacity)}}

    def patch(self, part, change):
        if part == "/status":
            assert change["status"]["capacity"] == change["status"]["allocatable"]
            self.capacity |= change["status"]["capacity"]
        else:
            self.labels |= change["metadata"]["labels"]


def test_a_node_gets_its_gpus_once_and_again_when_they_are_gone():
    node, gpus = NodeThatForgets(), Gpus(2, "nvidia-l4")
    assert advertise(node, gpus)
    assert node.capacity == {"cpu": "2", "nvidia.com/gpu": "2"}
    assert node.labels["slipway.dev/accelerator"] == "nvidia-l4"
    assert not advertise(node, gpus), "what is there is not patched again"
    node.capacity["nvidia.com/gpu"] = "0"
    assert advertise(node, gpus)
    assert node.capacity["nvidia.com/gpu"] == "2"


def test_gpus_are_asked_for_by_number_and_kind():
    assert Gpus.parse("4") == Gpus(4, "nvidia-l4")
    assert Gpus.parse("1:nvidia-h100") == Gpus(1, "nvidia-h100")


@pytest.mark.parametrize("text", ["0", "17", "x", "-1", "2:geforce", ":nvidia-l4"])
def test_gpus_that_cannot_be_are_refused(text):
    with pytest.raises(StepError, match="--gpus"):
        Gpus.parse(text)


@pytest.mark.parametrize("gpus", [None, Gpus(2, "nvidia-t4")])
def test_a_cluster_starts_again_with_what_it_was_started_with(tmp_path, gpus):
    settings = Settings(index=3, gateway_port=8090, gpus=gpus)
    settings.write(tmp_path / "cluster.json")
    assert Settings.read(tmp_path / "cluster.json") == settings


def test_settings_of_an_older_cluster_have_no_gpus(tmp_path):
    (tmp_path / "cluster.json").write_text('{"index": 0, "gateway_port": 8080}')
    assert Settings.read(tmp_path / "cluster.json").gpus is None


def test_only_a_cluster_with_gpus_has_what_advertises_them(tmp_path):
    def names(gpus):
        return [component.name for component in components(Layout("test"), tmp_path, 8080, gpus)]

    assert "gpus" not in names(None)
    assert names(Gpus(1, "nvidia-l4"))[-1] == "gpus", "after all that is always there"
