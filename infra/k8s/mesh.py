"""Istio's objects: gateway, routes, destination rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.k8s.manifest import Manifest, metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pulumi

NETWORKING = "networking.istio.io/v1"
SECURITY = "security.istio.io/v1"

ANY_HOST = "*"

REQUEST_TIMEOUT = "60s"
"""Longest answer the gateway waits for; a model that needs more is a batch job."""

RETRIES: Manifest = {
    # Only where the service cannot have begun on the request: a prediction is never computed twice.
    "attempts": 2,
    "retryOn": "connect-failure,refused-stream,reset-before-request",
}


def gateway(name: str, namespace: pulumi.Input[str], selector: Mapping[str, str], port: int) -> Manifest:
    """Plain HTTP for any host on the pods that match the selector."""
    return {
        "apiVersion": NETWORKING,
        "kind": "Gateway",
        "metadata": metadata(name, namespace),
        "spec": {
            "selector": dict(selector),
            "servers": [{"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": [ANY_HOST]}],
        },
    }


def closed_paths(
    name: str, namespace: pulumi.Input[str], selector: Mapping[str, str], paths: Sequence[str]
) -> Manifest:
    """The gateway's pods refuse the paths and everything below them, whatever routes there are."""
    refused = [spelt for path in paths for spelt in (path, f"{path}/*")]
    return {
        "apiVersion": SECURITY,
        "kind": "AuthorizationPolicy",
        "metadata": metadata(name, namespace),
        "spec": {
            "selector": {"matchLabels": dict(selector)},
            "action": "DENY",
            "rules": [{"to": [{"operation": {"paths": refused}}]}],
        },
    }


def strict(name: str, namespace: pulumi.Input[str]) -> Manifest:
    """Sidecars let in nobody without a certificate of the mesh: all of them, in the control plane's namespace."""
    return {
        "apiVersion": SECURITY,
        "kind": "PeerAuthentication",
        "metadata": metadata(name, namespace),
        "spec": {"mtls": {"mode": "STRICT"}},
    }


def below(path: str) -> Manifest:
    """Matches everything below a path, but not paths that merely begin with its letters."""
    return {"uri": {"prefix": f"{path}/"}}


def destination(host: str, port: int, weight: int | None = None) -> Manifest:
    """A Service to send to; `weight` is percent of the route."""
    target: Manifest = {"destination": {"host": host, "port": {"number": port}}}
    return target if weight is None else {**target, "weight": weight}


def rewriting_route(
    name: str,
    match: Manifest,
    destinations: Sequence[Manifest],
    timeout: str | None = REQUEST_TIMEOUT,
    mirror: Manifest | None = None,
) -> Manifest:
    """Sends what matches to the destinations with the matched prefix cut off. `timeout` None waits for ever.

    `mirror`, made by `mirror`, gets copies, and its answers go nowhere.
    """
    route: Manifest = {
        "name": name,
        "match": [match],
        "rewrite": {"uri": "/"},
        "route": list(destinations),
        "retries": RETRIES,
    }
    if timeout is not None:
        route["timeout"] = timeout
    return route if mirror is None else {**route, **mirror}


def mirror(host: str, port: int, percent: float) -> Manifest:
    """A Service that copies go to, and for how many percent of the requests."""
    return {"mirror": {"host": host, "port": {"number": port}}, "mirrorPercentage": {"value": percent}}


def answering_route(name: str, match: Manifest, status: int, body: str) -> Manifest:
    """Answers what matches at the gateway."""
    return {"name": name, "match": [match], "directResponse": {"status": status, "body": {"string": body}}}


def virtual_service(
    name: str,
    namespace: pulumi.Input[str],
    gateway: pulumi.Input[str],
    routes: Sequence[Manifest],
    labels: Mapping[str, str] | None = None,
) -> Manifest:
    """Routes of the gateway, tried in order."""
    return {
        "apiVersion": NETWORKING,
        "kind": "VirtualService",
        "metadata": metadata(name, namespace, labels),
        "spec": {"hosts": [ANY_HOST], "gateways": [gateway], "http": list(routes)},
    }


def destination_rule(name: str, namespace: pulumi.Input[str], host: str, labels: Mapping[str, str]) -> Manifest:
    """How the gateway treats a Service's pods: the least busy one next, one that fails rests."""
    return {
        "apiVersion": NETWORKING,
        "kind": "DestinationRule",
        "metadata": metadata(name, namespace, labels),
        "spec": {
            "host": host,
            "trafficPolicy": {
                "loadBalancer": {"simple": "LEAST_REQUEST"},
                "outlierDetection": {
                    # Gateway errors only: a 500 for one caller's input is no reason to rest a pod.
                    "consecutiveGatewayErrors": 5,
                    "interval": "5s",
                    "baseEjectionTime": "15s",
                    # Never all of them: an overloaded answer is better than none.
                    "maxEjectionPercent": 50,
                },
            },
        },
    }


def sticky_route(
    name: str,
    namespace: pulumi.Input[str],
    selector: Mapping[str, str],
    route: str,
    header: str,
    labels: Mapping[str, str],
) -> Manifest:
    """Makes a weighted route choose by the hash of a header, so that one caller keeps one destination.

    Lives in the namespace of the gateway's pods, which `selector` matches. A `VirtualService` cannot say this: Istio's
    consistent hashing chooses among the pods of a destination, when the destination has been chosen by chance.
    """
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": metadata(name, namespace, labels),
        "spec": {
            "workloadSelector": {"labels": dict(selector)},
            "configPatches": [
                {
                    "applyTo": "HTTP_ROUTE",
                    "match": {
                        "context": "GATEWAY",
                        "routeConfiguration": {"vhost": {"route": {"name": route, "action": "ROUTE"}}},
                    },
                    "patch": {
                        "operation": "MERGE",
                        "value": {
                            "route": {
                                "hash_policy": [{"header": {"header_name": header}}],
                                "weighted_clusters": {"use_hash_policy": True},
                            }
                        },
                    },
                }
            ],
        },
    }
