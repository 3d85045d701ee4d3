"""All rules of the pack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.rules import evidence, namespaces, production, workloads

if TYPE_CHECKING:
    from policies.rules.rule import Rule

RULES: tuple[Rule, ...] = (
    workloads.IMAGE_BY_DIGEST,
    workloads.RESOURCE_LIMITS,
    workloads.PROBES,
    workloads.RESTRICTED,
    workloads.GPU_TOLERATION,
    namespaces.POD_SECURITY,
    production.PINNED,
    production.REPLICAS,
    *evidence.RULES,
)
