"""Rules about namespaces."""

from __future__ import annotations

from policies.rules.rule import Properties, Rule

ENFORCE = "pod-security.kubernetes.io/enforce"

PRIVILEGED = {
    "istio-cni": "what sends pods' traffic through their sidecars changes the network of its node",
    "nvidia": "what counts GPUs and reads their sensors opens the driver's devices",
}
"""Namespaces that are not restricted, and why."""


def _pod_security(resource_type: str, properties: Properties) -> list[str]:
    if resource_type != "kubernetes:core/v1:Namespace":
        return []
    metadata = properties.get("metadata") or {}
    level = (metadata.get("labels") or {}).get(ENFORCE)
    allowed = "privileged" if metadata.get("name") in PRIVILEGED else "restricted"
    return (
        [] if level in {"restricted", allowed} else [f"namespace {metadata.get('name')} enforces {level or 'nothing'}"]
    )


POD_SECURITY = Rule(
    name="namespace-pod-security",
    description="Every namespace enforces the restricted Pod Security Standard, but for those that drive nodes.",
    remedy=f"label it {ENFORCE}=restricted",
    check=_pod_security,
)
