"""NVIDIA's DCGM exporter, on nodes with GPUs alone. Driver and device plugin are Bottlerocket's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.config.accelerators import NODE_LABEL, WHOLE
from infra.k8s import workloads

if TYPE_CHECKING:
    from infra.k8s.manifest import Manifest

NAMESPACE = "nvidia"

DCGM_EXPORTER = ("https://nvidia.github.io/dcgm-exporter/helm-charts", "dcgm-exporter", "4.6.0")
"""Repository, chart, version."""

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
    return workloads.namespace(NAMESPACE, {"pod-security.kubernetes.io/enforce": "privileged"})


def dcgm_values() -> Manifest:
    """Values of the exporter's chart; Prometheus finds its pods by their annotation."""
    return {
        "affinity": ON_GPU_NODES,
        "tolerations": TOLERATIONS,
        "serviceMonitor": {"enabled": False},
        "podAnnotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9400"},
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
    }
