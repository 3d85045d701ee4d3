"""KMS keys: one for each kind of data, so that who may read one kind need not read another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.platforms.aws.resource import AwsResource, Scope, plain_document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pulumi

    from infra.platforms.aws import iam

DELETION_DAYS = 30
"""Time to change one's mind: what a deleted key encrypted is gone."""

USE = ("kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey")
"""What a service needs of a key to encrypt with it."""


def key(
    scope: Scope,
    name: str,
    described: str,
    opts: pulumi.ResourceOptions,
    services: Mapping[str, Mapping[str, Any]] | None = None,
) -> AwsResource:
    """A key that rotates yearly. `services` of AWS that use it by themselves, with the condition that holds each."""
    inputs = {
        "description": f"{scope.prefix}: {described}",
        "enableKeyRotation": True,
        "deletionWindowInDays": DELETION_DAYS,
        "policy": plain_document(key_policy(scope, services or {})),
        "tags": scope.named(name),
    }
    made = AwsResource("kms/key:Key", name, inputs, opts, outputs=("arn", "keyId"))
    alias = {"name": f"alias/{scope.prefix}-{name}", "targetKeyId": made.output("keyId")}
    AwsResource("kms/alias:Alias", name, alias, opts)
    return made


def key_policy(scope: Scope, services: Mapping[str, Mapping[str, Any]]) -> Sequence[iam.Statement]:
    """The account decides by IAM who uses the key; services that have no role are named here."""
    root = scope.arn("iam", "root", regional=False)
    statements: list[iam.Statement] = [
        {"Sid": "Account", "Effect": "Allow", "Principal": {"AWS": root}, "Action": "kms:*", "Resource": "*"}
    ]
    for service, condition in services.items():
        statements.append(
            {
                "Sid": "".join(part.capitalize() for part in service.partition(".")[0].split("-")),
                "Effect": "Allow",
                "Principal": {"Service": service},
                "Action": list(USE),
                # In a key's own policy `*` is the key.
                "Resource": "*",
                "Condition": dict(condition),
            }
        )
    return statements


def log_group(
    scope: Scope, name: str, path: str, days: int, encryption: AwsResource, opts: pulumi.ResourceOptions
) -> AwsResource:
    """A CloudWatch log group, encrypted, that forgets after so many days."""
    inputs = {
        "name": path,
        "retentionInDays": retention(days),
        "kmsKeyId": encryption.output("arn"),
        "tags": scope.named(name),
    }
    return AwsResource("cloudwatch/logGroup:LogGroup", name, inputs, opts, outputs=("arn",))


RETENTIONS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
"""Days that CloudWatch knows."""


def retention(days: int) -> int:
    """The shortest time that CloudWatch knows and that is not shorter."""
    return next(each for each in RETENTIONS if each >= days)


def logs_condition(scope: Scope) -> dict[str, Any]:
    """CloudWatch encrypts with the key for log groups of this account alone."""
    return {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": scope.arn("logs", "log-group:*")}}
