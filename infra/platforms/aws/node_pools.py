"""Karpenter's objects: which nodes it may make, and how many in all. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infra.config.accelerators import WHOLE
from infra.k8s.manifest import Manifest, metadata
from infra.platforms.aws import gpu_pools, nodes
from infra.platforms.aws.network import tier_tags

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pulumi

    from infra.config.aws import GpuPoolConfig, ModelNodesConfig

KARPENTER = "karpenter.sh"
EXPIRE_HOURS = 336
"""A node is replaced after two weeks, so that none misses the patches of a month."""

MODELS = "models"
"""The pool without GPUs."""


@dataclass(frozen=True, kw_only=True)
class NodePool:
    """What varies between Karpenter's pools."""

    name: str
    requirements: Mapping[str, Sequence[str]]
    """Values that a node's label may have."""
    limits: Mapping[str, str]
    """Resources of all nodes at most."""
    disk_gb: int
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()
    user_data: str | None = None
    """What Bottlerocket is told at its first start, as TOML."""
    reservation: str | None = None
    """Capacity reservation that the nodes use."""


def of_models(config: ModelNodesConfig) -> NodePool:
    """Nodes for models without GPUs."""
    return NodePool(
        name=MODELS,
        requirements={
            "karpenter.k8s.aws/instance-family": config.instance_families,
            "kubernetes.io/arch": ["amd64"],
            f"{KARPENTER}/capacity-type": ["spot" if config.spot else "on-demand"],
        },
        limits={"cpu": str(config.max_cpus)},
        disk_gb=config.disk_gb,
    )


def of_gpus(pool: str, config: GpuPoolConfig) -> NodePool:
    """Nodes with one kind of GPU."""
    capacity = "reserved" if config.capacity_reservation else "spot" if config.spot else "on-demand"
    return NodePool(
        name=pool,
        requirements={
            "node.kubernetes.io/instance-type": [each.type for each in config.chosen],
            f"{KARPENTER}/capacity-type": [capacity],
        },
        limits={WHOLE: str(config.gpus)},
        disk_gb=config.disk_gb,
        labels=gpu_pools.labels(pool, config),
        taints=[{"key": WHOLE, "value": gpu_pools.TAINT_VALUE, "effect": "NoSchedule"}],
        user_data=gpu_pools.user_data(config),
        reservation=config.capacity_reservation,
    )


def node_class(pool: NodePool, cluster: str, role: pulumi.Input[str], tags: Mapping[str, str]) -> Manifest:
    """The EC2NodeClass: what a launch template is for a managed pool."""
    spec: Manifest = {
        "role": role,
        "amiSelectorTerms": [{"alias": "bottlerocket@latest"}],
        "subnetSelectorTerms": [{"tags": tier_tags(cluster, "private")}],
        "securityGroupSelectorTerms": [{"tags": {"aws:eks:cluster-name": cluster}}],
        "metadataOptions": {
            "httpEndpoint": "enabled",
            "httpTokens": "required",
            "httpPutResponseHopLimit": nodes.HOPS,
        },
        "blockDeviceMappings": [
            {"deviceName": device, "ebs": {"volumeType": "gp3", "volumeSize": f"{size}Gi", "encrypted": True}}
            for device, size in ((nodes.ROOT_DISK, nodes.ROOT_DISK_GB), (nodes.DATA_DISK, pool.disk_gb))
        ],
        "tags": dict(tags),
    }
    if pool.user_data is not None:
        spec["userData"] = pool.user_data
    if pool.reservation is not None:
        spec["capacityReservationSelectorTerms"] = [{"id": pool.reservation}]
    return {
        "apiVersion": "karpenter.k8s.aws/v1",
        "kind": "EC2NodeClass",
        "metadata": metadata(pool.name),
        "spec": spec,
    }


def node_pool(pool: NodePool) -> Manifest:
    """The NodePool: which nodes it may make, and how many in all."""
    template: Manifest = {
        "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": pool.name},
        "requirements": [
            {"key": key, "operator": "In", "values": list(values)} for key, values in pool.requirements.items()
        ],
        "expireAfter": f"{EXPIRE_HOURS}h",
    }
    if pool.taints:
        template["taints"] = [dict(each) for each in pool.taints]
    return {
        "apiVersion": f"{KARPENTER}/v1",
        "kind": "NodePool",
        "metadata": metadata(pool.name),
        "spec": {
            "template": {"metadata": {"labels": dict(pool.labels)}, "spec": template},
            "limits": dict(pool.limits),
            "disruption": {
                # A node that is not empty is never taken away to save money: its pods load models for minutes.
                "consolidationPolicy": "WhenEmpty",
                "consolidateAfter": "10m",
            },
        },
    }
