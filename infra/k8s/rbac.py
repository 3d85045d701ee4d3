"""Rights within the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.k8s.manifest import Manifest, metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pulumi

RBAC = "rbac.authorization.k8s.io"

READ = ("get", "list", "watch")
CHANGE = ("get", "list", "patch", "update", "watch")
OWN = ("create", "delete", *CHANGE)
"""Verbs: of one who watches, who keeps up to date, and who makes and takes away."""


def rule(group: str, resources: Sequence[str], verbs: Sequence[str], names: Sequence[str] = ()) -> Manifest:
    """What may be done with resources of an API group; `names` limits it to some of them."""
    found: Manifest = {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}
    return {**found, "resourceNames": list(names)} if names else found


def service_account(name: pulumi.Input[str], namespace: pulumi.Input[str]) -> Manifest:
    """An account as the subject of a binding."""
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def role(name: str, namespace: pulumi.Input[str], rules: Sequence[Manifest]) -> Manifest:
    """Rights in one namespace."""
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "Role",
        "metadata": metadata(name, namespace),
        "rules": list(rules),
    }


def cluster_role(name: str, rules: Sequence[Manifest]) -> Manifest:
    """Rights in the whole cluster."""
    return {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": metadata(name), "rules": list(rules)}


def role_binding(name: str, namespace: pulumi.Input[str], role: pulumi.Input[str], subject: Manifest) -> Manifest:
    """Gives a subject the rights of a role, in its namespace."""
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": metadata(name, namespace),
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": role},
        "subjects": [subject],
    }


def cluster_role_binding(name: str, role: pulumi.Input[str], subject: Manifest) -> Manifest:
    """Gives a subject the rights of a role, everywhere."""
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": metadata(name),
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    }
