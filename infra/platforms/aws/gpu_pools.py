"""Nodes with GPUs, as data: what nodes of a pool carry, and managed node groups. Karpenter's are in `node_pools`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.config.accelerators import NODE_LABEL, WHOLE
from infra.platforms.aws import nodes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.config.aws import GpuPoolConfig

TAINT_VALUE = "present"

PLUGIN = "settings.kubelet-device-plugins.nvidia"
"""Bottlerocket's own device plugin, which needs no pods that see the node's devices."""

MIG_MODELS: Mapping[str, str] = {
    "nvidia-a100-40gb": "a100.40gb",
    "nvidia-a100-80gb": "a100.80gb",
    "nvidia-h100": "h100.80gb",
    "nvidia-h200": "h200.141gb",
}
"""GPUs that can be cut, as Bottlerocket calls them."""


def labels(pool: str, config: GpuPoolConfig) -> dict[str, str]:
    """What releases select nodes by."""
    return {NODE_LABEL: config.accelerator, "slipway.dev/pool": pool}


def user_data(config: GpuPoolConfig) -> str | None:
    """What Bottlerocket is told at its first start: how a node's GPUs are shared. None where they are not."""
    sharing = config.sharing
    if sharing is None:
        return None
    if sharing.mig is not None:
        return (
            f'[{PLUGIN}]\ndevice-partitioning-strategy = "mig"\n\n'
            f'[{PLUGIN}.mig.profile]\n"{MIG_MODELS[config.accelerator]}" = "{sharing.mig}"\n'
        )
    return (
        f'[{PLUGIN}]\ndevice-sharing-strategy = "time-slicing"\n\n'
        f"[{PLUGIN}.time-slicing]\nreplicas = {sharing.time_slices}\n"
        # A resource of its own name: nobody who asks for a GPU gets a part of one.
        "rename-by-default = true\nfail-requests-greater-than-one = true\n"
    )


def group(pool: str, config: GpuPoolConfig) -> nodes.Group:
    """A managed pool's node group: tainted, so that only what asks for GPUs goes there."""
    return nodes.Group(
        name=f"gpu-{pool}",
        instance_types=[each.type for each in config.chosen],
        count=config.max,
        disk_gb=config.disk_gb,
        ami=nodes.GPU_AMI,
        labels=labels(pool, config),
        user_data=user_data(config),
        taints=[{"key": WHOLE, "value": TAINT_VALUE, "effect": "NO_SCHEDULE"}],
        spot=config.spot,
        reservation=config.capacity_reservation,
    )
