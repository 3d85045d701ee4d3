"""AWS resources as a plan of Terraform's, which third-party judges read: the same in another spelling."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.infra.recording import Registered

UNPREFIXED = ("ec2",)
"""Services that Terraform leaves out of the names of their resources."""

TYPES = {
    "aws:lb/loadBalancer:LoadBalancer": "aws_lb",
    "aws:rds/instance:Instance": "aws_db_instance",
    "aws:rds/parameterGroup:ParameterGroup": "aws_db_parameter_group",
    "aws:rds/subnetGroup:SubnetGroup": "aws_db_subnet_group",
}
"""Those whose names follow no rule."""

BLOCKS = {
    "aliases": "alias",
    "default_actions": "default_action",
    "encryption_configurations": "encryption_configuration",
    "parameters": "parameter",
    "rules": "rule",
    "taints": "taint",
    "transitions": "transition",
    "vpc_configs": "vpc_config",
}
"""Lists that Pulumi names in the plural."""

REFERRING = {
    "bucket": "aws_s3_bucket",
    "security_group_ids": "aws_security_group",
    "security_groups": "aws_security_group",
    "vpc_id": "aws_vpc",
    "vpc_security_group_ids": "aws_security_group",
}
"""Inputs that name another resource, and its type."""

TEXT = ("labels", "tags", "policy")
"""Values whose keys are the user's own."""


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def type_of(token: str) -> str:
    if token in TYPES:
        return TYPES[token]
    service, kind = token.split(":")[1].partition("/")[0], snake(token.rpartition(":")[2])
    return f"aws_{kind}" if service in UNPREFIXED or kind.startswith(f"{service}_") else f"aws_{service}_{kind}"


def plan(resources: Iterable[Registered]) -> dict[str, Any]:
    """All of them as what `terraform show -json` prints of a plan."""
    planned, changes, configured = [], [], []
    for each in resources:
        type_, name = type_of(each.type), re.sub("[^a-z0-9_-]", "_", each.name.lower())
        known = {"address": f"{type_}.{name}", "mode": "managed", "type": type_, "name": name}
        values = _spelled({key: value for key, value in each.inputs.items() if value is not None})
        planned.append({**known, "values": values})
        changes.append({**known, "change": {"actions": ["create"], "before": None, "after": values}})
        configured.append({**known, "expressions": _references(values)})
    return {
        "format_version": "1.2",
        "terraform_version": "1.9.0",
        "planned_values": {"root_module": {"resources": planned}},
        "resource_changes": changes,
        "configuration": {"root_module": {"resources": configured}},
    }


def _references(values: dict[str, Any]) -> dict[str, Any]:
    """What judges find the other resources by. Mocks give each the id `<name>-id`."""
    found = {}
    for key, type_ in REFERRING.items():
        ids = values.get(key, [])
        owners = [each for each in (ids if isinstance(ids, list) else [ids]) if str(each).endswith("-id")]
        if owners:
            found[key] = {"references": [f"{type_}.{each.removesuffix('-id')}.id" for each in owners]}
    return found


def _spelled(value: Any) -> Any:
    """A plan has a list of one wherever Pulumi has an object."""
    if not isinstance(value, dict):
        return value
    return {BLOCKS.get(snake(key), snake(key)): child if key in TEXT else _block(child) for key, child in value.items()}


def _block(value: Any) -> Any:
    if isinstance(value, list):
        return [_spelled(child) for child in value]
    return [_spelled(value)] if isinstance(value, dict) else value
