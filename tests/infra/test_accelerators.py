from __future__ import annotations

import pytest
from pydantic_core import PydanticCustomError

from infra.config.accelerators import ACCELERATORS, TAINT, mig_memory_gb, placement


def test_whole_gpus_go_to_their_nodes_by_label_and_tolerate_their_taint():
    found = placement("nvidia-l4", 2)
    assert found.resource == "nvidia.com/gpu"
    assert found.count == 2
    assert found.node_selector == {"slipway.dev/accelerator": "nvidia-l4"}
    assert found.tolerations == (TAINT,)
    assert found.memory_gb == 48


def test_a_shared_gpu_promises_no_memory():
    found = placement("nvidia-t4", 1, "shared")
    assert found.resource == "nvidia.com/gpu.shared"
    assert found.memory_gb is None


def test_a_part_of_a_gpu_has_memory_of_its_own():
    found = placement("nvidia-h100", 2, "1g.10gb")
    assert found.resource == "nvidia.com/mig-1g.10gb"
    assert found.memory_gb == 20


@pytest.mark.parametrize(
    ("accelerator", "share", "remedy"),
    [("nvidia-rtx", None, "nvidia-t4"), ("nvidia-t4", "1g.5gb", "shared"), ("nvidia-h100", "1g.5gb", "1g.10gb")],
)
def test_what_cannot_be_had_is_refused_with_what_can(accelerator, share, remedy):
    with pytest.raises(PydanticCustomError) as raised:
        placement(accelerator, 1, share)
    assert remedy in str(raised.value)


@pytest.mark.parametrize("name", ACCELERATORS)
def test_parts_of_a_gpu_fit_into_it(name):
    gpu = ACCELERATORS[name]
    for profile, most in gpu.mig.items():
        assert int(profile[0]) * most <= 7, f"{profile}: a GPU has seven slices"
        assert mig_memory_gb(profile) * most <= gpu.memory_gb * 1.05, f"{profile} × {most} on {name}"
