"""Namespaces with their Pod Security and default-deny in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi

from infra.k8s import network, workloads
from infra.k8s.manifest import declare, name_of
from infra.k8s.security import POD_SECURITY

if TYPE_CHECKING:
    from collections.abc import Mapping


def isolated(
    name: str, opts: pulumi.ResourceOptions, pod_security: Mapping[str, str] = POD_SECURITY
) -> pulumi.Output[str]:
    """A namespace, under `restricted` unless said, from which and to which nothing goes but names."""
    created = name_of(declare(name, workloads.namespace(name, pod_security), opts))
    denied = declare(f"{name}-default-deny", network.deny_all(created), opts)
    resolving = declare(f"{name}-allow-dns", network.allow_dns(created), opts)
    # By way of the policies: no pod runs in the namespace before they are there.
    return pulumi.Output.all(created, name_of(denied), name_of(resolving)).apply(lambda all_: str(all_[0]))
