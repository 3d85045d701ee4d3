"""cert-manager from its own chart, for what else runs in the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.k8s import helm, network, workloads
from infra.k8s.manifest import declare
from infra.k8s.namespaces import isolated

if TYPE_CHECKING:
    from infra.k8s.manifest import Manifest

REPOSITORY, CHART, VERSION = "https://charts.jetstack.io", "cert-manager", "v1.21.2"

WEBHOOK_PORT = 10250
"""Where the API server asks about its objects."""

HTTP = 80
"""Where an authority looks for its challenge, and the controller before it."""


class CertManager(pulumi.ComponentResource):
    """Controller, webhook and kinds, in a namespace of their own."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:addons:CertManager", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        namespace = isolated(names.CERT_MANAGER, child)
        policy = declare(f"{name}-policy", network_policy(namespace), child)
        after = pulumi.ResourceOptions(parent=self, depends_on=[policy])
        helm.release(name, CHART, namespace, after, values=values(), repository=REPOSITORY, version=VERSION)
        self.register_outputs({})


def values() -> Manifest:
    """Values of the chart."""
    small = workloads.resources(cpu="10m", cpu_limit="500m", memory="128Mi")
    return {
        "crds": {"enabled": True},
        # Its own namespace, and no rights in kube-system.
        "global": {"leaderElection": {"namespace": names.CERT_MANAGER}},
        "resources": small,
        "webhook": {"resources": small},
        "cainjector": {"resources": small},
        "startupapicheck": {"enabled": False},
        "prometheus": {"enabled": False},
    }


def network_policy(namespace: pulumi.Input[str]) -> Manifest:
    """The API server asks the webhook; all of them ask it, and the controller asks authorities."""
    return network.allow(
        names.CERT_MANAGER,
        namespace,
        {},
        ingress=[network.flow("from", [], [WEBHOOK_PORT])],
        egress=[network.flow("to", [], [HTTP, *network.API_SERVER_PORTS])],
    )
