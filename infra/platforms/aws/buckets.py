"""S3: models, features, predictions and logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi

from infra.platforms.aws import iam, keys
from infra.platforms.aws.resource import AwsResource, Scope, document

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGS = "logs"

OLD_VERSIONS_DAYS = 90
"""What was overwritten or deleted can be had back for so long."""

ABANDONED_DAYS = 7
"""Parts of uploads that never ended."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a bucket is for, as far as it decides how it is kept."""

    expire_days: int | None = None
    """Objects go after so many days; None keeps them."""
    infrequent_days: int | None = None
    """Objects move to cheaper storage after so many days."""


@dataclass(frozen=True, kw_only=True)
class BucketsArgs:
    """What the buckets are made from."""

    scope: Scope
    log_days: int


class Buckets(pulumi.ComponentResource):
    """Versioned, encrypted by a key of their own, TLS only, closed to the public; each logs who reads it."""

    key: AwsResource

    def __init__(self, name: str, args: BucketsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:platforms:AwsBuckets", name, {}, opts)
        self._scope = args.scope
        self._child = pulumi.ResourceOptions(parent=self)
        self.key = keys.key(
            self._scope, "s3", "objects", self._child,
            {"logging.s3.amazonaws.com": iam.confused_deputy(self._scope)},
        )  # fmt: skip
        contents = {
            LOGS: Contents(expire_days=args.log_days),
            "models": Contents(),
            "features": Contents(infrequent_days=60),
            "predictions": Contents(infrequent_days=60),
        }
        self._made: dict[str, AwsResource] = {}
        for purpose, kept in contents.items():
            self._made[purpose] = self._bucket(purpose, kept)
        self.register_outputs({purpose: bucket.id for purpose, bucket in self._made.items()})

    def __getitem__(self, purpose: str) -> AwsResource:
        return self._made[purpose]

    def _bucket(self, purpose: str, contents: Contents) -> AwsResource:
        scope = self._scope
        inputs = {"bucket": f"{scope.prefix}-{purpose}-{scope.account}", "tags": scope.named(purpose)}
        bucket = AwsResource("s3/bucket:Bucket", purpose, inputs, scope.keeping(self), outputs=("arn",))
        settings: dict[str, tuple[str, dict[str, Any]]] = {
            "s3/bucketPublicAccessBlock:BucketPublicAccessBlock": (
                "public",
                {
                    "blockPublicAcls": True,
                    "blockPublicPolicy": True,
                    "ignorePublicAcls": True,
                    "restrictPublicBuckets": True,
                },
            ),
            "s3/bucketOwnershipControls:BucketOwnershipControls": (
                "ownership",
                {"rule": {"objectOwnership": "BucketOwnerEnforced"}},
            ),
            "s3/bucketVersioning:BucketVersioning": ("versions", {"versioningConfiguration": {"status": "Enabled"}}),
            "s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": (
                "encryption",
                {"rules": [encryption(self.key.output("arn"))]},
            ),
            "s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": (
                "lifecycle",
                {"rules": lifecycle(contents)},
            ),
            "s3/bucketPolicy:BucketPolicy": (
                "policy",
                {"policy": document(policy(scope, bucket.output("arn"), logs=purpose == LOGS))},
            ),
        }
        if purpose != LOGS:
            target = {"targetBucket": self._made[LOGS].id, "targetPrefix": f"s3/{purpose}/"}
            settings["s3/bucketLogging:BucketLogging"] = ("logging", target)
        for token, (name, said) in settings.items():
            AwsResource(token, f"{purpose}-{name}", {"bucket": bucket.id, **said}, self._child)
        return bucket


def encryption(key_arn: pulumi.Input[str]) -> dict[str, Any]:
    """Every object is encrypted with the key, whatever its writer says; a bucket key saves calls to KMS."""
    default = {"sseAlgorithm": "aws:kms", "kmsMasterKeyId": key_arn}
    return {"applyServerSideEncryptionByDefault": default, "bucketKeyEnabled": True}


def lifecycle(contents: Contents) -> list[dict[str, Any]]:
    """What goes, and when."""
    rules: list[dict[str, Any]] = [
        {
            "id": "rests",
            "status": "Enabled",
            "filter": {},
            "abortIncompleteMultipartUpload": {"daysAfterInitiation": ABANDONED_DAYS},
            "noncurrentVersionExpiration": {"noncurrentDays": OLD_VERSIONS_DAYS},
        }
    ]
    if contents.expire_days is not None:
        rules.append({"id": "expiry", "status": "Enabled", "filter": {}, "expiration": {"days": contents.expire_days}})
    if contents.infrequent_days is not None:
        moved = [{"days": contents.infrequent_days, "storageClass": "INTELLIGENT_TIERING"}]
        rules.append({"id": "tiering", "status": "Enabled", "filter": {}, "transitions": moved})
    return rules


def policy(scope: Scope, arn: pulumi.Output[str], *, logs: bool) -> list[Mapping[str, Any]]:
    """Nothing without TLS 1.2; S3 itself writes access logs where they belong."""
    whole = [arn, pulumi.Output.concat(arn, "/*")]
    denied = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": whole}
    statements: list[Mapping[str, Any]] = [
        {"Sid": "TlsOnly", **denied, "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
        {"Sid": "Tls12", **denied, "Condition": {"NumericLessThan": {"s3:TlsVersion": "1.2"}}},
    ]
    if logs:
        statements.append(
            {
                "Sid": "AccessLogs",
                "Effect": "Allow",
                "Principal": {"Service": "logging.s3.amazonaws.com"},
                "Action": "s3:PutObject",
                "Resource": pulumi.Output.concat(arn, "/s3/*"),
                "Condition": iam.confused_deputy(scope),
            }
        )
    return statements
