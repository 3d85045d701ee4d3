"""What a whole environment has to be: marked as one, safe where people depend on it, and within its budget."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from policies import cost
from policies.rules.aws.nodes import NODE_GROUP, NODE_POOL
from policies.rules.rule import Declared, Properties, Rule, StackRule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PLATFORM = "slipway:platforms:AwsPlatform"
PROVIDER = "pulumi:providers:aws"

ENVIRONMENT_TAG = "slipway:environment"

FEWEST_BACKUP_DAYS = 7
"""A mistake made before a weekend is noticed after it."""


def _tags(resource_type: str, properties: Properties) -> list[str]:
    if resource_type != PROVIDER:
        return []
    said = properties.get("defaultTags") or "{}"
    tags = (json.loads(said) if isinstance(said, str) else said).get("tags") or {}
    return [] if tags.get(ENVIRONMENT_TAG) else [f"what it makes has no tag {ENVIRONMENT_TAG}"]


def _database(properties: Properties) -> Iterator[str]:
    if properties.get("deletionProtection") is not True:
        yield "it can be deleted"
    if properties.get("multiAz") is not True:
        yield "it has no standby in another zone"
    if (properties.get("backupRetentionPeriod") or 0) < FEWEST_BACKUP_DAYS:
        yield f"its backups are kept {properties.get('backupRetentionPeriod') or 0:.0f} days"
    if properties.get("skipFinalSnapshot") is True:
        yield "nothing is kept of it when it goes"


def _undeletable(key: str) -> Callable[[Properties], Iterator[str]]:
    return lambda properties: iter([] if properties.get(key) is True else ["it can be deleted"])


PROTECTED: Mapping[str, Callable[[Properties], Iterator[str]]] = {
    "aws:eks/cluster:Cluster": _undeletable("deletionProtection"),
    "aws:lb/loadBalancer:LoadBalancer": _undeletable("enableDeletionProtection"),
    "aws:rds/instance:Instance": _database,
    "aws:s3/bucket:Bucket": lambda it: iter(["it is emptied when it goes"] if it.get("forceDestroy") is True else []),
}


def _production(resources: Sequence[Declared]) -> bool:
    return any(each.type == PLATFORM and each.properties.get("production") is True for each in resources)


def _protections(resources: Sequence[Declared]) -> list[str]:
    if not _production(resources):
        return []
    return [
        f"{each.kind} {each.name}: {wrong}"
        for each in resources
        if each.type in PROTECTED
        for wrong in PROTECTED[each.type](each.properties)
    ]


def _spot(resources: Sequence[Declared]) -> list[str]:
    return [
        f"{each.kind} {each.name}: AWS may take its nodes back within two minutes"
        for each in resources
        if _production(resources) and _is_spot(each)
    ]


def _is_spot(resource: Declared) -> bool:
    if resource.type == NODE_GROUP:
        return resource.properties.get("capacityType") == "SPOT"
    if resource.type != NODE_POOL:
        return False
    spec = ((resource.properties.get("spec") or {}).get("template") or {}).get("spec") or {}
    return any("spot" in each.get("values", []) for each in spec.get("requirements") or [])


def _budget(resources: Sequence[Declared]) -> list[str]:
    budgets = [each.properties.get("monthlyBudget") for each in resources if each.type == PLATFORM]
    priced = cost.monthly((each.type, each.properties) for each in resources)
    currency = cost.prices()["currency"]
    return [
        f"with every pool at its largest a month costs {priced.most:,.0f} {currency}, the budget is {budget:,.0f}"
        for budget in budgets
        if budget and priced.most > budget
    ]


TAGS = Rule(
    name="aws-tags",
    description="Everything in an account says which environment it belongs to, so that bills and cleaners can tell.",
    remedy=f"give the provider defaultTags with {ENVIRONMENT_TAG}",
    check=_tags,
)

PROTECTIONS = StackRule(
    name="aws-production-protection",
    description="In production nothing that holds data or takes traffic can be deleted by one command.",
    remedy="drop slipway:platform.protect, database.multiAz and database.backupDays, whose defaults are safe",
    check=_protections,
)

SPOT = StackRule(
    name="aws-production-spot",
    description="In production no model depends on nodes that go at two minutes' notice.",
    remedy="drop spot from the pool, or keep only batch models on it",
    check=_spot,
    level="advisory",
)

BUDGET = StackRule(
    name="aws-budget",
    description="An environment at its largest costs no more than somebody agreed to pay.",
    remedy="lower max of a pool, or raise slipway:platform.monthlyBudget",
    check=_budget,
)
