"""Istio from its own charts: the control plane, one gateway, and what sidecars need where models have them.

The images are by digest and the proxy is stock Envoy, which lacks Istio's own filters:
istiod must not configure them (see `ISTIOD_ENV`). Neither the gateway nor a sidecar needs one of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.addons import istio_cni
from infra.k8s import helm, mesh, network, sidecar, workloads
from infra.k8s.manifest import Manifest, declare, name_of
from infra.k8s.namespaces import isolated
from infra.k8s.security import DRIVES_NODES
from infra.outputs import Exposure, Gateway, Namespaces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.config.addons import IstioConfig
    from infra.config.stack import ImageName

GATEWAY_PORT = 8080
"""Port of the gateway's Service and pods. Not below 1024: the pod runs as nobody."""

STATUS_PORT = 15021
"""Where Envoy's agent answers the readiness probe."""

XDS_PORTS = (15010, sidecar.CONTROL_PORT)
"""Where istiod hands out configuration and certificates."""

WEBHOOK_PORT = 15017
"""Where istiod validates objects for the API server."""

MONITORING_PORT = 15014

ISTIO_UID = 1337
"""The user that istiod configures its proxies to run as."""

CONTROL_REPLICAS, GATEWAY_REPLICAS = 2, 3
"""In production. The gateway has one for each zone; of the control plane the second one does."""

ISTIOD_ENV = {
    # Filters that only Istio's build of Envoy has; the stock one refuses a configuration that names them.
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
    "PILOT_ENABLE_ALPN_FILTER": "false",
    # A sidecar starts before the pod's own containers and ends after them.
    "ENABLE_NATIVE_SIDECARS": "true",
}

RELEASE_STATS = r"cluster\.outbound.*(upstream_rq_time|upstream_rq_[0-9]+|upstream_rq_[1-5]xx|membership_total)"
"""Of Envoy's statistics, those that monitoring reads: answers by code, their time, pods behind each Service."""

GATEWAY_SELECTOR = {"istio": names.INGRESS.removeprefix("istio-")}
"""Labels that the gateway's chart puts on its pods."""


@dataclass(frozen=True, kw_only=True)
class IstioArgs:
    """What Istio is installed from."""

    config: IstioConfig
    images: Mapping[ImageName, str]
    """References by name: `istiod` and `istio-proxy`, with mutual TLS `istio-cni`."""
    exposure: Exposure
    backends: Namespaces
    """Namespaces that the gateway sends requests to."""
    authorities: Sequence[str]
    """Certificates of authorities that vouch for addresses of issuers' keys, beside the public ones."""
    closed: Sequence[str]
    """Paths that the gateway refuses, whatever routes there are."""
    mtls: bool
    """Whether models answer those alone who show a certificate of the mesh."""
    production: bool
    """Whether people depend on it: then a node that goes takes neither the gateway nor the control plane with it."""


class Istio(pulumi.ComponentResource):
    """The mesh's objects, its control plane and a gateway that takes requests."""

    gateway: Gateway

    def __init__(self, name: str, args: IstioArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:addons:Istio", name, {"production": args.production, "mtls": args.mtls}, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        self._charts = args.config.charts
        system = isolated(names.ISTIO_NAMESPACE, self._child)
        ingress = isolated(names.INGRESS_NAMESPACE, self._child)
        declare(f"{names.ISTIOD}-policy", istiod_policy(system, ingress, args), self._child)
        declare(f"{names.INGRESS}-policy", ingress_policy(ingress, system, args.backends), self._child)
        base = self._chart(names.ISTIO_BASE, "base", system, {}, [])
        control = self._chart(
            names.ISTIOD,
            "istio-control/istio-discovery",
            system,
            istiod_values(args),
            [base],
        )
        proxy = self._chart(
            names.INGRESS,
            "gateway",
            ingress,
            gateway_values(args.exposure.node_port, args.images["istio-proxy"], production=args.production),
            [control],
        )
        manifest = mesh.gateway(names.GATEWAY, ingress, GATEWAY_SELECTOR, GATEWAY_PORT)
        meshed = self._mutual_tls(args, system, control) if args.mtls else []
        ready = pulumi.ResourceOptions(parent=self, depends_on=[control, proxy, *meshed])
        gateway = declare(names.GATEWAY, manifest, ready)
        if args.closed:
            closed = mesh.closed_paths(f"{names.INGRESS}-closed", ingress, GATEWAY_SELECTOR, args.closed)
            declare(f"{names.INGRESS}-closed", closed, pulumi.ResourceOptions(parent=self, depends_on=[control]))
        self.gateway = Gateway(
            reference=pulumi.Output.format("{0}/{1}", ingress, name_of(gateway)),
            namespace=ingress,
            selector=GATEWAY_SELECTOR,
            ready=gateway,
            url=args.exposure.url,
            internal=args.exposure.internal,
            mtls=args.mtls,
        )
        self.register_outputs({"gateway": self.gateway.reference})

    def _mutual_tls(
        self, args: IstioArgs, system: pulumi.Output[str], control: pulumi.Resource
    ) -> list[pulumi.Resource]:
        """What is there before the first pod with a sidecar."""
        namespace = isolated(names.ISTIO_CNI_NAMESPACE, self._child, DRIVES_NODES)
        policy = declare(f"{names.ISTIO_CNI}-policy", istio_cni.network_policy(namespace), self._child)
        chosen = istio_cni.values(args.config.cni, args.images["istio-cni"])
        plugin = self._chart(names.ISTIO_CNI, "istio-cni", namespace, chosen, [policy])
        strict = mesh.strict("default", system)
        after = pulumi.ResourceOptions(parent=self, depends_on=[control])
        return [plugin, declare(f"{names.ISTIOD}-strict", strict, after)]

    def _chart(
        self,
        name: str,
        chart: str,
        namespace: pulumi.Output[str],
        values: Manifest,
        after: list[pulumi.Resource],
    ) -> pulumi.Resource:
        options = pulumi.ResourceOptions(parent=self, depends_on=after)
        return helm.release(name, f"{self._charts}/{chart}", namespace, options, values=values)


def istiod_values(args: IstioArgs) -> Manifest:
    """Values of the control plane's chart."""
    images, production = args.images, args.production
    proxy = images["istio-proxy"]
    return {
        "image": images["istiod"],
        "autoscaleEnabled": False,
        "replicaCount": CONTROL_REPLICAS if production else 1,
        **({"topologySpreadConstraints": [spread(names.ISTIOD_LABELS)]} if production else {}),
        "resources": workloads.resources(cpu="50m", cpu_limit="1", memory="512Mi"),
        "seccompProfile": {"type": "RuntimeDefault"},
        "env": dict(ISTIOD_ENV),
        **believing(args.authorities),
        "telemetry": {"enabled": False},
        "meshConfig": {
            # Nothing joins the mesh by accident, and routes reach only what is a Service here.
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
            "accessLogFile": "/dev/stdout",
        },
        "global": {
            "proxy": {"image": proxy, "resources": workloads.resources(cpu="20m", cpu_limit="1", memory="128Mi")},
            "proxy_init": {"image": proxy},
            # Of one replica a budget would only block the node's drain.
            "defaultPodDisruptionBudget": {"enabled": production},
        },
        "cni": {"enabled": args.mtls},
        # The chart's own default asks for a sysctl that a port above 1024 does not need.
        "gateways": {"securityContext": gateway_pod_security()},
    }


def believing(authorities: Sequence[str]) -> Manifest:
    """Values of the control plane's chart by which it believes authorities of one's own."""
    if not authorities:
        return {}
    believed = "\n".join(authorities)
    # It reads them when it starts.
    digest = hashlib.sha256(believed.encode()).hexdigest()
    return {"jwksResolverExtraRootCA": believed, "podAnnotations": {names.ANNOTATION_CONFIG_DIGEST: digest}}


def gateway_values(node_port: int, image: str, *, production: bool) -> Manifest:
    """Values of the gateway's chart. The pod's template comes from istiod, which fills in image and arguments."""
    ports = [
        {"name": "status-port", "port": STATUS_PORT, "protocol": "TCP", "targetPort": STATUS_PORT},
        {
            "name": "http2",
            "port": GATEWAY_PORT,
            "protocol": "TCP",
            "targetPort": GATEWAY_PORT,
            "nodePort": node_port,
        },
    ]
    return {
        "service": {"type": "NodePort", "ports": ports},
        "autoscaling": {"enabled": False},
        "replicaCount": GATEWAY_REPLICAS if production else 1,
        **(several(GATEWAY_SELECTOR) if production else {}),
        "podAnnotations": {
            # istiod injects the image; naming it here too rolls the pods when it changes.
            "sidecar.istio.io/proxyImage": image,
            # What became of the requests to each release; Istio leaves the statistics of clusters out.
            "sidecar.istio.io/statsInclusionRegexps": RELEASE_STATS,
        },
        # Said here, because the chart's placeholder image has no tag and would default to pulling it always.
        "imagePullPolicy": "IfNotPresent",
        "resources": workloads.resources(cpu="100m", cpu_limit="2", memory="256Mi"),
        "securityContext": gateway_pod_security(),
        "terminationGracePeriodSeconds": 30,
    }


def several(selector: Mapping[str, str]) -> Manifest:
    """Values of the gateway's chart where it has several replicas: over the zones, and never all drained at once."""
    budget = {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    return {"podDisruptionBudget": budget, "topologySpreadConstraints": [spread(selector)]}


def spread(selector: Mapping[str, str]) -> Manifest:
    """Over the zones, as far as there are several."""
    return {
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(selector)},
    }


def gateway_pod_security() -> Manifest:
    """The `restricted` standard for Envoy."""
    return {
        "runAsNonRoot": True,
        "runAsUser": ISTIO_UID,
        "runAsGroup": ISTIO_UID,
        "fsGroup": ISTIO_UID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def istiod_policy(system: pulumi.Input[str], ingress: pulumi.Input[str], args: IstioArgs) -> Manifest:
    """The API server calls the webhook from outside any namespace; proxies fetch configuration; istiod watches."""
    sidecars = [network.namespace_peer(args.backends.models, sidecar.LABELS)] if args.mtls else []
    return network.allow(
        names.ISTIOD,
        system,
        names.ISTIOD_LABELS,
        ingress=[
            network.flow("from", [], [WEBHOOK_PORT]),
            network.flow("from", [network.namespace_peer(ingress)], [*XDS_PORTS, MONITORING_PORT]),
            *([network.flow("from", sidecars, [sidecar.CONTROL_PORT])] if sidecars else []),
        ],
        egress=[network.flow("to", [], network.API_SERVER_PORTS)],
    )


def ingress_policy(ingress: pulumi.Input[str], system: pulumi.Input[str], backends: Namespaces) -> Manifest:
    """Anyone may ask the gateway; it asks istiod and what it routes to, on any of their ports."""
    routed = [network.namespace_peer(backends.models), network.namespace_peer(backends.platform)]
    return network.allow(
        names.INGRESS,
        ingress,
        GATEWAY_SELECTOR,
        ingress=[network.flow("from", [], [GATEWAY_PORT, STATUS_PORT])],
        egress=[network.flow("to", [network.namespace_peer(system)], XDS_PORTS), {"to": routed}],
    )
