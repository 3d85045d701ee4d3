"""What a pod gets, and where it is to be had. Pure data, no resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.k8s import workloads

if TYPE_CHECKING:
    from infra.config.accelerators import Placement
    from infra.config.workload import ResourcesConfig
    from infra.k8s.manifest import Manifest
    from infra.k8s.workloads import Labels

SPREAD_OVER = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
"""Failure domains that replicas are spread over, as far as there are several."""


def resources(limits: ResourcesConfig) -> Manifest:
    """Requests and limits of a container, its GPUs among them: of these both are equal, as Kubernetes demands."""
    found = workloads.resources(limits.cpu, limits.cpu_limit, limits.memory)
    if limits.placement is not None:
        for kind in ("requests", "limits"):
            found[kind][limits.placement.resource] = str(limits.placement.count)
    return found


def nodes(placement: Placement | None) -> Manifest:
    """Fields of a pod's spec: onto the nodes that have the GPU, past the taint that keeps all else off them."""
    if placement is None:
        return {}
    return {
        "nodeSelector": dict(placement.node_selector),
        "tolerations": [dict(each) for each in placement.tolerations],
    }


def spread(labels: Labels) -> Manifest:
    """Fields of a pod's spec: away from the others that have these labels."""
    constraints = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(labels)},
            # Only pods of one revision are compared, or a rollout would count the pods it replaces.
            "matchLabelKeys": ["pod-template-hash"],
        }
        for key in SPREAD_OVER
    ]
    return {"topologySpreadConstraints": constraints}
