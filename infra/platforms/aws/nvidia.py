"""NVIDIA's DCGM exporter, on nodes with GPUs alone. Driver and device plugin are Bottlerocket's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra import names
from infra.config.accelerators import NODE_LABEL, WHOLE
from infra.k8s import security, workloads

if TYPE_CHECKING:
    from infra.k8s.manifest import Manifest

DCGM_EXPORTER = ("https://nvidia.github.io/dcgm-exporter/helm-charts", "dcgm-exporter", "4.6.0")
"""Repository, chart, version."""

METRICS_PORT = 9400

ON_GPU_NODES = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": NODE_LABEL, "operator": "Exists"}]}]
        }
    }
}
TOLERATIONS = [{"key": WHOLE, "operator": "Exists", "effect": "NoSchedule"}]


def namespace() -> Manifest:
    """Whose pods see the node's devices and the kubelet's socket, which no other namespace's may."""
    return workloads.namespace(names.GPUS_NAMESPACE, security.DRIVES_NODES)


def dcgm_values() -> Manifest:
    """Values of the exporter's chart."""
    return {
        "affinity": ON_GPU_NODES,
        "tolerations": TOLERATIONS,
        "serviceMonitor": {"enabled": False},
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
    }
