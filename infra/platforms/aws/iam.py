"""Roles and what they may: one for each workload, with the exact names of what it uses. Statements are pure data."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import pulumi

from infra.platforms.aws.resource import AwsResource, Scope, document, plain_document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Statement: TypeAlias = dict[str, Any]

POD_IDENTITY = "pods.eks.amazonaws.com"
"""Who takes a role for a pod."""

UNNAMEABLE: Mapping[str, str] = {
    "ec2:Describe*": "EC2's Describe calls know no resources",
    "eks:DescribeAddonVersions": "asks about what EKS offers, not about anything of the account",
    "pricing:GetProducts": "prices belong to no account",
    "ssm:GetParameter": "parameters that AWS publishes, by a path of theirs",
    "ecr:GetAuthorizationToken": "a token for every repository that the caller may use",
    "logs:DescribeLogGroups": "CloudWatch lists, it is not asked about one",
}
"""Actions that may be allowed on `*`, and why there is no other way. A policy rule and a test read it."""


def allow(
    actions: Sequence[str], resources: Sequence[pulumi.Input[str]], condition: Mapping[str, Any] | None = None
) -> Statement:
    """A statement that allows."""
    statement: Statement = {"Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    return {**statement, "Condition": dict(condition)} if condition else statement


def trust(*services: str) -> str:
    """Services of AWS that take the role. Those of pods and clusters also pass on whom they take it for."""
    actions = ["sts:AssumeRole", "sts:TagSession"] if POD_IDENTITY in services else ["sts:AssumeRole"]
    principal = {"Service": services[0] if len(services) == 1 else list(services)}
    return plain_document([{"Effect": "Allow", "Principal": principal, "Action": actions}])


def confused_deputy(scope: Scope) -> dict[str, Any]:
    """Holds a service to this account: nobody else's resource may make it use what is ours."""
    return {"StringEquals": {"aws:SourceAccount": scope.account}}


LONGEST_NAME = 64
"""Of a role."""


class Owner(Protocol):
    """Whose roles are made: `Scope`, or `Facts` of it."""

    @property
    def prefix(self) -> pulumi.Input[str]:
        """Begins their names."""

    @property
    def boundary(self) -> pulumi.Input[str | None]:
        """IAM policy that bounds them."""


def role(
    owner: Owner,
    name: str,
    trusted: str,
    statements: Sequence[Statement],
    opts: pulumi.ResourceOptions,
    managed: Sequence[str] = (),
) -> AwsResource:
    """A role with its own policy, and with policies that AWS maintains (`managed`, by name)."""
    inputs: dict[str, Any] = {
        "name": pulumi.Output.from_input(owner.prefix).apply(lambda it: shortened(f"{it}-{name}")),
        "assumeRolePolicy": trusted,
        "permissionsBoundary": owner.boundary,
    }
    made = AwsResource("iam/role:Role", name, inputs, opts, outputs=("arn",))
    if statements:
        policy = {"role": made.output("name"), "name": name, "policy": document(statements)}
        AwsResource("iam/rolePolicy:RolePolicy", name, policy, opts)
    for each in managed:
        attached = {"role": made.output("name"), "policyArn": f"arn:aws:iam::aws:policy/{each}"}
        AwsResource(
            "iam/rolePolicyAttachment:RolePolicyAttachment", f"{name}-{each.rpartition('/')[2]}", attached, opts
        )
    return made


def shortened(name: str) -> str:
    """A role's name; a long one ends with its digest, so that two never become one."""
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: LONGEST_NAME - 9]}-{digest}"


def bucket_access(
    bucket_arn: pulumi.Input[str], key_arn: pulumi.Input[str], prefix: str, *, write: bool
) -> list[Statement]:
    """Objects below a prefix of a bucket, and the key that encrypts them."""
    objects = pulumi.Output.concat(bucket_arn, f"/{prefix}*")
    actions = ["s3:GetObject", *(["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"] if write else [])]
    listed = {"StringLike": {"s3:prefix": [f"{prefix}*"]}} if prefix else None
    return [
        allow(actions, [objects]),
        allow(["s3:ListBucket"], [bucket_arn], listed),
        allow(["kms:Decrypt", *(["kms:GenerateDataKey"] if write else [])], [key_arn]),
    ]


def bucket_appends(bucket_arn: pulumi.Input[str], key_arn: pulumi.Input[str], prefix: str) -> list[Statement]:
    """New objects below a prefix of a bucket, and the key that encrypts them; nothing that is there."""
    return [
        allow(["s3:PutObject"], [pulumi.Output.concat(bucket_arn, f"/{prefix}*")]),
        allow(["kms:GenerateDataKey"], [key_arn]),
    ]
