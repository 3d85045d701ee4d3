"""All rules of the pack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.rules import evidence, namespaces, production, workloads
from policies.rules.aws import data, environment, exposure, identity, nodes

if TYPE_CHECKING:
    from policies.rules.rule import Rule, StackRule

RULES: tuple[Rule, ...] = (
    workloads.IMAGE_BY_DIGEST,
    workloads.RESOURCE_LIMITS,
    workloads.PROBES,
    workloads.RESTRICTED,
    workloads.GPU_TOLERATION,
    namespaces.POD_SECURITY,
    production.PINNED,
    production.REPLICAS,
    production.LOGIN,
    production.MUTUAL_TLS,
    *evidence.RULES,
    data.ENCRYPTION,
    exposure.PUBLIC_ACCESS,
    identity.WILDCARDS,
    nodes.IMDSV2,
    nodes.GPU_POOL,
    environment.TAGS,
)
"""Of one resource each."""

STACK_RULES: tuple[StackRule, ...] = (environment.PROTECTIONS, environment.SPOT, environment.BUDGET)
