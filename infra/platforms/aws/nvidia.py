"""NVIDIA's device plugin, MIG manager and DCGM exporter, on nodes with GPUs alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from infra.config.accelerators import NODE_LABEL, WHOLE
from infra.platforms.aws.gpu_pools import shared_config

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infra.config.aws import GpuPoolConfig
    from infra.k8s.manifest import Manifest

NAMESPACE = "nvidia"

DEVICE_PLUGIN = ("https://nvidia.github.io/k8s-device-plugin", "nvidia-device-plugin", "0.18.0")
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


def device_plugin_values(pools: Iterable[GpuPoolConfig]) -> Manifest:
    """Values of the device plugin's chart: one configuration for whole GPUs, one for each number of time slices."""
    slices = sorted({pool.sharing.time_slices for pool in pools if pool.sharing and pool.sharing.time_slices})
    configs = {"whole": yaml.safe_dump({"version": "v1", "flags": {"migStrategy": "mixed"}})}
    for count in slices:
        configs[shared_config(count)] = yaml.safe_dump(
            {
                "version": "v1",
                "flags": {"migStrategy": "mixed"},
                # A resource of its own name: nobody who asks for a GPU gets a part of one.
                "sharing": {
                    "timeSlicing": {
                        "renameByDefault": True,
                        "failRequestsGreaterThanOne": True,
                        "resources": [{"name": WHOLE, "replicas": count}],
                    }
                },
            }
        )
    return {
        "config": {"map": configs, "default": "whole"},
        "affinity": ON_GPU_NODES,
        "tolerations": TOLERATIONS,
        # Bottlerocket has no other way to tell what is there.
        "gfd": {"enabled": False},
        "nfd": {"enabled": False},
    }


def dcgm_values() -> Manifest:
    """Values of the exporter's chart; Prometheus finds its pods by their annotation."""
    return {
        "affinity": ON_GPU_NODES,
        "tolerations": TOLERATIONS,
        "serviceMonitor": {"enabled": False},
        "podAnnotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9400"},
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
    }
