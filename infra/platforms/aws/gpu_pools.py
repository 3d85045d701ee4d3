"""Nodes with GPUs: managed node groups, or Karpenter's NodePools. Which nodes is data (`infra.config.accelerators`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.config.accelerators import NODE_LABEL, WHOLE
from infra.platforms.aws import nodes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.config.aws import GpuPoolConfig
    from infra.k8s.manifest import Manifest

TAINT_VALUE = "present"

SHARING_LABEL = "nvidia.com/device-plugin.config"
"""By which NVIDIA's device plugin finds how a node's GPUs are shared."""

MIG_LABEL = "nvidia.com/mig.config"
"""By which NVIDIA's MIG manager finds how a node's GPUs are cut."""

KARPENTER = "karpenter.sh"
EXPIRE_HOURS = 336
"""A node is replaced after two weeks, so that none misses the patches of a month."""


def labels(pool: str, config: GpuPoolConfig) -> dict[str, str]:
    """What releases select nodes by, and what NVIDIA's programs read."""
    found = {NODE_LABEL: config.accelerator, "slipway.dev/pool": pool}
    sharing = config.sharing
    if sharing is not None and sharing.time_slices is not None:
        found[SHARING_LABEL] = shared_config(sharing.time_slices)
    if sharing is not None and sharing.mig is not None:
        found[MIG_LABEL] = f"all-{sharing.mig}"
    return found


def shared_config(slices: int) -> str:
    """Name of the device plugin's configuration of so many time slices."""
    return f"time-slices-{slices}"


def group(pool: str, config: GpuPoolConfig) -> nodes.Group:
    """A managed pool's node group: tainted, so that only what asks for GPUs goes there."""
    return nodes.Group(
        name=f"gpu-{pool}",
        instance_types=[each.type for each in config.chosen],
        min=config.min,
        max=config.max,
        disk_gb=config.disk_gb,
        ami=nodes.GPU_AMI,
        labels=labels(pool, config),
        taints=[{"key": WHOLE, "value": TAINT_VALUE, "effect": "NO_SCHEDULE"}],
        spot=config.spot,
        reservation=config.capacity_reservation,
    )


def node_class(pool: str, config: GpuPoolConfig, cluster: str, role: str, tags: Mapping[str, str]) -> Manifest:
    """Karpenter's EC2NodeClass: what a launch template is for a managed pool."""
    spec: Manifest = {
        "role": role,
        "amiSelectorTerms": [{"alias": "bottlerocket@latest"}],
        "subnetSelectorTerms": [{"tags": {"slipway.dev/tier": "private", "slipway.dev/environment": cluster}}],
        "securityGroupSelectorTerms": [{"tags": {"aws:eks:cluster-name": cluster}}],
        "metadataOptions": {
            "httpEndpoint": "enabled",
            "httpTokens": "required",
            "httpPutResponseHopLimit": nodes.HOPS,
        },
        "blockDeviceMappings": [
            {"deviceName": device, "ebs": {"volumeType": "gp3", "volumeSize": f"{size}Gi", "encrypted": True}}
            for device, size in ((nodes.ROOT_DISK, nodes.ROOT_DISK_GB), (nodes.DATA_DISK, config.disk_gb))
        ],
        "tags": dict(tags),
    }
    if config.capacity_reservation is not None:
        spec["capacityReservationSelectorTerms"] = [{"id": config.capacity_reservation}]
    return {"apiVersion": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass", "metadata": {"name": pool}, "spec": spec}


def node_pool(pool: str, config: GpuPoolConfig) -> Manifest:
    """Karpenter's NodePool: which nodes it may make, and how many GPUs in all."""
    capacity = "reserved" if config.capacity_reservation else "spot" if config.spot else "on-demand"
    return {
        "apiVersion": f"{KARPENTER}/v1",
        "kind": "NodePool",
        "metadata": {"name": pool},
        "spec": {
            "template": {
                "metadata": {"labels": labels(pool, config)},
                "spec": {
                    "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": pool},
                    "taints": [{"key": WHOLE, "value": TAINT_VALUE, "effect": "NoSchedule"}],
                    "requirements": [
                        {
                            "key": "node.kubernetes.io/instance-type",
                            "operator": "In",
                            "values": [each.type for each in config.chosen],
                        },
                        {"key": f"{KARPENTER}/capacity-type", "operator": "In", "values": [capacity]},
                    ],
                    "expireAfter": f"{EXPIRE_HOURS}h",
                },
            },
            "limits": {WHOLE: str(config.gpus)},
            "disruption": {
                # A node that is not empty is never taken away to save money: its pods load models for minutes.
                "consolidationPolicy": "WhenEmpty",
                "consolidateAfter": "10m",
            },
        },
    }
