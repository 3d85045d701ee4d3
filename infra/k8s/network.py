"""Network policies: everything is denied, then each flow is allowed where its owner is declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from infra.k8s.manifest import Manifest, metadata

if TYPE_CHECKING:
    import pulumi

DNS_PORT = 53

API_SERVER_PORTS = (443, 6443)
"""The API server's address differs from cluster to cluster; its ports are these two."""

Labels = Mapping[str, str]

Peers: TypeAlias = "pulumi.Input[Sequence[Manifest]]"
"""Pods, or blocks of addresses; an Output where another stack tells which."""


def namespace_peer(namespace: pulumi.Input[str], pods: Labels | None = None) -> Manifest:
    """Pods of a namespace, all of them or those with the labels."""
    peer: Manifest = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    if pods is not None:
        peer["podSelector"] = {"matchLabels": dict(pods)}
    return peer


def flow(direction: str, peers: Peers, ports: Sequence[int]) -> Manifest:
    """A rule: TCP on `ports`, `from` or `to` the peers. An empty list means anyone."""
    rule: Manifest = {"ports": [{"protocol": "TCP", "port": port} for port in ports]}
    if not isinstance(peers, Sequence) or peers:
        rule[direction] = peers
    return rule


def allow(
    name: str,
    namespace: pulumi.Input[str],
    pods: Labels,
    ingress: Sequence[Manifest] = (),
    egress: Sequence[Manifest] = (),
) -> Manifest:
    """Allows the rules for the pods with the labels."""
    directions = [kind for kind, rules in (("Ingress", ingress), ("Egress", egress)) if rules]
    spec: Manifest = {"podSelector": {"matchLabels": dict(pods)}, "policyTypes": directions}
    if ingress:
        spec["ingress"] = list(ingress)
    if egress:
        spec["egress"] = list(egress)
    return _policy(name, namespace, spec)


def deny_all(namespace: pulumi.Input[str]) -> Manifest:
    """Denies all traffic of the namespace's pods, both ways."""
    return _policy("default-deny", namespace, {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})


def allow_dns(namespace: pulumi.Input[str]) -> Manifest:
    """Lets the namespace's pods resolve names, in `kube-system` only."""
    rule = {
        "to": [namespace_peer("kube-system")],
        "ports": [{"protocol": protocol, "port": DNS_PORT} for protocol in ("UDP", "TCP")],
    }
    return _policy("allow-dns", namespace, {"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]})


def _policy(name: str, namespace: pulumi.Input[str], spec: Manifest) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(name, namespace),
        "spec": spec,
    }
