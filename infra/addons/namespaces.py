"""A namespace of an add-on's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.k8s import network, workloads
from infra.k8s.manifest import declare, name_of
from infra.k8s.security import POD_SECURITY

if TYPE_CHECKING:
    import pulumi


def isolated(name: str, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    """A namespace under `restricted` from which and to which nothing goes but names."""
    created = name_of(declare(name, workloads.namespace(name, POD_SECURITY), opts))
    declare(f"{name}-default-deny", network.deny_all(created), opts)
    declare(f"{name}-allow-dns", network.allow_dns(created), opts)
    return created
