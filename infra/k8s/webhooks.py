"""What the API server calls: webhooks and aggregated APIs, the Services in front of them and their certificates."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Literal

from infra.k8s import workloads
from infra.k8s.manifest import Manifest, metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pulumi

PORT_NAME = "https"
"""Of the container's port."""

TIMEOUT_SECONDS = 10


def tls_secret(
    name: str,
    namespace: pulumi.Input[str],
    certificate: pulumi.Output[str],
    key: pulumi.Output[str],
    authority: pulumi.Output[str] | None = None,
) -> Manifest:
    """A certificate as a pod mounts it, with its authority's for a program that asks callers for theirs."""
    values = {"tls.crt": certificate, "tls.key": key, **({"ca.crt": authority} if authority is not None else {})}
    return {**workloads.secret(f"{name}-tls", namespace, values), "type": "kubernetes.io/tls"}


def digest(certificate: pulumi.Output[str], *files: str) -> pulumi.Output[str]:
    """Digest of what a pod reads at its start."""
    return certificate.apply(lambda pem: hashlib.sha256("\0".join((pem, *files)).encode()).hexdigest())


def authority_bundle(authority: pulumi.Output[str]) -> pulumi.Output[str]:
    """An authority's certificate as objects that name one want it."""
    return authority.apply(lambda pem: base64.b64encode(pem.encode()).decode())


def service(name: str, namespace: pulumi.Input[str], labels: Mapping[str, str]) -> Manifest:
    """The Service that the API server calls, at 443."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, namespace, labels),
        "spec": {
            "type": "ClusterIP",
            "selector": dict(labels),
            "ports": [{"name": "https", "port": 443, "targetPort": PORT_NAME, "protocol": "TCP"}],
        },
    }


def api_service(
    group: str, version: str, service: pulumi.Input[str], namespace: pulumi.Input[str], authority: pulumi.Output[str]
) -> Manifest:
    """Registers an aggregated API, and whose certificate to trust for it."""
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": metadata(f"{version}.{group}"),
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": service, "namespace": namespace, "port": 443},
            "caBundle": authority_bundle(authority),
        },
    }


def webhook(name: str, service: tuple[str, str], path: str, authority: pulumi.Output[str], rule: Manifest) -> Manifest:
    """One webhook at a path of a Service (name, namespace): what it is not asked about is not admitted."""
    return {
        "name": name,
        "admissionReviewVersions": ["v1", "v1beta1"],
        "clientConfig": {
            "service": {"name": service[0], "namespace": service[1], "path": path, "port": 443},
            "caBundle": authority_bundle(authority),
        },
        "failurePolicy": "Fail",
        "rules": [rule],
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_SECONDS,
    }


def rule(group: str, version: str, resource: str, operations: Sequence[str]) -> Manifest:
    """Which requests a webhook is asked about."""
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "operations": list(operations),
        "resources": [resource],
        "scope": "*",
    }


def configuration(kind: Literal["Mutating", "Validating"], name: str, hooks: Sequence[Manifest]) -> Manifest:
    """Registers webhooks."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": metadata(name),
        "webhooks": list(hooks),
    }
