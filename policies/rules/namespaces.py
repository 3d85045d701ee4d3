"""Rules about namespaces."""

from __future__ import annotations

from policies.rules.rule import Properties, Rule

ENFORCE = "pod-security.kubernetes.io/enforce"


def _pod_security(resource_type: str, properties: Properties) -> list[str]:
    if resource_type != "kubernetes:core/v1:Namespace":
        return []
    metadata = properties.get("metadata") or {}
    level = (metadata.get("labels") or {}).get(ENFORCE)
    return [] if level == "restricted" else [f"namespace {metadata.get('name')} enforces {level or 'nothing'}"]


POD_SECURITY = Rule(
    name="namespace-pod-security",
    description="Every namespace enforces the restricted Pod Security Standard, whatever is deployed into it later.",
    remedy=f"label it {ENFORCE}=restricted",
    check=_pod_security,
)
