"""The mesh's proxy beside a pod's own containers: how a pod asks for it, and what that needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra import names
from infra.k8s import network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.k8s.manifest import Manifest

LABELS = {"sidecar.istio.io/inject": "true"}
"""Of a pod that is to have one. Pods that nobody asks, of streams and batch jobs, have none."""

CONTROL_PORT = 15012
"""Where istiod gives a proxy its certificate and its configuration."""


def pod_annotations(metrics: tuple[int, str], outbound: Sequence[int] = ()) -> dict[str, str]:
    """Of such a pod. What it sends goes by the sidecar to `outbound` ports alone: stores and brokers are no mesh's.

    `metrics` are port and path of its own, which the proxy's agent fetches inside the pod and tells at
    `SIDECAR_METRICS_PORT`: Prometheus has no certificate, and needs none for the one port that tells nothing else.
    """
    port, path = metrics
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port),
        "prometheus.io/path": path,
        "traffic.sidecar.istio.io/includeOutboundIPRanges": "",
        "traffic.sidecar.istio.io/includeOutboundPorts": ",".join(map(str, outbound)),
    }


def to_control_plane() -> Manifest:
    """The flow that it starts with."""
    return network.flow("to", [network.namespace_peer(names.ISTIO_NAMESPACE, names.ISTIOD_LABELS)], [CONTROL_PORT])
