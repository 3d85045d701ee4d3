"""Roles may do what they are for, with what they are for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.rules.aws.documents import anyone, statements
from policies.rules.rule import Properties, Rule

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_RESOURCES: Mapping[str, str] = {
    "ec2:Describe*": "EC2's Describe calls know no resources",
    "ecr:GetAuthorizationToken": "a token for every repository that the caller may use",
    "eks:DescribeAddonVersions": "asks about what EKS offers, not about anything of the account",
    "logs:DescribeLogGroups": "CloudWatch lists, it is not asked about one",
    "route53:ListHostedZones": "Route 53 lists, it is not asked about one",
    "pricing:GetProducts": "prices belong to no account",
    "ssm:GetParameter": "parameters that AWS publishes, by a path of theirs",
}
"""Actions that may be allowed on `*`, and why there is no other way. The judge's own list: what the platform calls
unnameable is not thereby allowed."""

POLICIES = ("aws:iam/policy:Policy", "aws:iam/rolePolicy:RolePolicy")
ROLE = "aws:iam/role:Role"
ATTACHMENT = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"

EVERYTHING = ("AdministratorAccess", "PowerUserAccess", "IAMFullAccess")
"""AWS' own policies that no workload needs."""


def _wildcards(resource_type: str, properties: Properties) -> list[str]:
    if resource_type in POLICIES:
        return _loose(properties.get("policy"))
    if resource_type == ROLE:
        trusted = [each for each in statements(properties.get("assumeRolePolicy")) if each.allows]
        return ["anyone may take the role" for each in trusted if anyone(each.principal)]
    if resource_type == ATTACHMENT:
        name = str(properties.get("policyArn")).rpartition("/")[2]
        return [f"{name} allows nearly everything"] if name in EVERYTHING else []
    return []


def _loose(document: str | None) -> list[str]:
    found = []
    for each in statements(document):
        if not each.allows:
            continue
        found += [f"{action} is allowed" for action in each.actions if action == "*" or action.endswith(":*")]
        if "*" in each.resources:
            named = [action for action in each.actions if action not in NO_RESOURCES]
            found += [f"{', '.join(named)} on every resource"] if named else []
    return found


WILDCARDS = Rule(
    name="aws-wildcard",
    description="A role names its actions and their resources; * stands only where the API knows no resources.",
    remedy="name the actions and the ARNs, as infra.platforms.aws.iam.allow does",
    check=_wildcards,
)
