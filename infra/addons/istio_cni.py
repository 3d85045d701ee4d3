"""Istio's network plugin from its own chart: it sends pods' traffic through their sidecars.

Without it each pod would start with a container that may change its network, which `restricted` forbids. A pod that is
on a node before the plugin ends at its first container, which looks, and is put right by the plugin's agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra import names
from infra.k8s import network, workloads

if TYPE_CHECKING:
    import pulumi

    from infra.config.addons import CniConfig
    from infra.k8s.manifest import Manifest

LABELS = {"k8s-app": "istio-cni-node"}
"""That the chart puts on its pods."""


def values(config: CniConfig, image: str) -> Manifest:
    """Values of the chart."""
    return {
        "image": image,
        "cniBinDir": config.bin,
        "cniConfDir": config.conf,
        "resources": workloads.resources(cpu="10m", cpu_limit="500m", memory="128Mi"),
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def network_policy(namespace: pulumi.Input[str]) -> Manifest:
    """It reads the pods of its node."""
    return network.allow(names.ISTIO_CNI, namespace, LABELS, egress=[network.flow("to", [], network.API_SERVER_PORTS)])
