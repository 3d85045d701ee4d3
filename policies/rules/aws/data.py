"""What AWS keeps is encrypted, and what travels there is, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.rules.rule import Properties, Rule, by_type, given

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

YES = (True, "true")
"""As the providers spell it."""


def _disks(mappings: Sequence[Properties]) -> list[str]:
    return [
        f"disk {each.get('deviceName')} is not encrypted"
        for each in mappings
        if (each.get("ebs") or {}).get("encrypted") not in YES
    ]


def _brokers(properties: Properties) -> list[str]:
    encryption = properties.get("encryptionInfo") or {}
    transit = encryption.get("encryptionInTransit") or {}
    found = [] if given(encryption, "encryptionAtRestKmsKeyArn") else ["its disks have no key of yours"]
    return found + ([] if transit.get("clientBroker") == "TLS" else ["clients reach brokers without TLS"])


def _cluster(properties: Properties) -> list[str]:
    encrypted = (properties.get("encryptionConfig") or {}).get("resources") or []
    return [] if "secrets" in encrypted else ["Secrets lie in etcd without a key of yours"]


def _repository(properties: Properties) -> list[str]:
    kinds = [each.get("encryptionType") for each in properties.get("encryptionConfigurations") or []]
    return [] if kinds == ["KMS"] else ["its images have no key of yours"]


def _bucket(properties: Properties) -> list[str]:
    defaults = [each.get("applyServerSideEncryptionByDefault") or {} for each in properties.get("rules") or []]
    return (
        [] if any(each.get("sseAlgorithm") == "aws:kms" for each in defaults) else ["its objects have no key of yours"]
    )


def _queue(properties: Properties) -> list[str]:
    encrypted = properties.get("sqsManagedSseEnabled") is True or given(properties, "kmsMasterKeyId")
    return [] if encrypted else ["its messages are not encrypted"]


def _volumes(properties: Properties) -> list[str]:
    if properties.get("provisioner") != "ebs.csi.aws.com":
        return []
    encrypted = (properties.get("parameters") or {}).get("encrypted") in YES
    return [] if encrypted else ["its volumes are not encrypted"]


def _needs(key: str, wrong: str) -> Callable[[Properties], list[str]]:
    return lambda properties: [] if properties.get(key) is True else [wrong]


JUDGED: Mapping[str, Callable[[Properties], list[str]]] = {
    "aws:cloudwatch/logGroup:LogGroup": lambda it: [] if given(it, "kmsKeyId") else ["it has no key of yours"],
    "aws:ec2/launchTemplate:LaunchTemplate": lambda it: _disks(it.get("blockDeviceMappings") or []),
    "aws:ecr/repository:Repository": _repository,
    "aws:eks/cluster:Cluster": _cluster,
    "aws:kms/key:Key": _needs("enableKeyRotation", "the key is never turned"),
    "aws:lb/listener:Listener": lambda it: (
        [] if it.get("protocol") in {"TLS", "HTTPS"} else [f"it listens for {it.get('protocol')}"]
    ),
    "aws:msk/cluster:Cluster": _brokers,
    "aws:rds/instance:Instance": _needs("storageEncrypted", "its disk is not encrypted"),
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": _bucket,
    "aws:sqs/queue:Queue": _queue,
    "kubernetes:karpenter.k8s.aws/v1:EC2NodeClass": lambda it: _disks(
        (it.get("spec") or {}).get("blockDeviceMappings") or []
    ),
    "kubernetes:storage.k8s.io/v1:StorageClass": _volumes,
}


ENCRYPTION = Rule(
    name="aws-encryption",
    description="What AWS keeps or carries is encrypted, with keys of the account's own wherever AWS takes one.",
    remedy="encrypt it, as infra.platforms.aws does by infra.platforms.aws.keys",
    check=by_type(JUDGED),
)
