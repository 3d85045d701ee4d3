"""What every container of ours runs as: the `restricted` Pod Security Standard, and no root file system to write."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.k8s.manifest import Manifest

UID = 10001
"""User and group of our pods and of our images, which own nothing that they must write."""

POD_SECURITY = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
"""Labels of every namespace of ours but those whose pods drive a node."""

DRIVES_NODES = {"pod-security.kubernetes.io/enforce": "privileged"}
"""Labels of these."""


def pod_security_context() -> Manifest:
    """Security of a pod whose volumes belong to `UID`."""
    return {
        "runAsNonRoot": True,
        "runAsUser": UID,
        "runAsGroup": UID,
        "fsGroup": UID,
        # Changing the owner of every file at each start would grow with the volume.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security_context() -> Manifest:
    """Security of a container that writes only to its mounted volumes."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }
