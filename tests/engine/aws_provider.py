"""An AWS account that only remembers: it gives out ids and ARNs, and tells what makes a resource another one."""

from __future__ import annotations

from importlib.metadata import version

from tests.engine.remembering_provider import RememberingProvider
from tests.infra.aws import answers

NAMES = frozenset({"name", "vpcId"})
"""Inputs that replace whatever has them."""

FORCES_REPLACEMENT = {
    "aws:ec2/natGateway:NatGateway": {"allocationId", "subnetId"},
    "aws:ec2/subnet:Subnet": {"cidrBlock", "availabilityZone"},
    "aws:ec2/vpc:Vpc": {"cidrBlock"},
    "aws:eks/cluster:Cluster": {"accessConfig", "bootstrapSelfManagedAddons", "roleArn"},
    "aws:eks/nodeGroup:NodeGroup": {
        "amiType",
        "capacityType",
        "clusterName",
        "instanceTypes",
        "nodeGroupNamePrefix",
        "nodeRoleArn",
        "subnetIds",
    },
    "aws:lb/loadBalancer:LoadBalancer": {"internal", "loadBalancerType"},
    "aws:lb/targetGroup:TargetGroup": {"port", "protocol", "targetType"},
    "aws:msk/cluster:Cluster": {"clusterName", "encryptionInfo"},
    "aws:msk/serverlessCluster:ServerlessCluster": {"clientAuthentication", "clusterName", "vpcConfigs"},
    "aws:rds/instance:Instance": {"dbName", "engine", "kmsKeyId", "storageEncrypted", "username"},
    "aws:s3/bucket:Bucket": {"bucket"},
}
"""What the real provider's schema calls `replaceOnChanges`, for what holds data or others stand on."""

REVISIONS = ("latestVersion", "latestRevision")
"""Outputs that count a resource's updates."""


class RememberingAccount(RememberingProvider):
    package, version = "aws", version("pulumi-aws")

    def replacing(self, type_, before, after, changed):
        return [key for key in changed if key in FORCES_REPLACEMENT.get(type_, ()) or key in NAMES]

    def beside(self, before, after):
        own = ("name", "bucket", "clusterName", "identifier")
        return any(key.endswith("NamePrefix") for key in after) or any(before.get(key) != after.get(key) for key in own)

    def told(self, type_, name, inputs, old):
        found = answers.outputs(type_, name, inputs)
        if old is not None:
            found |= {key: old[key] + 1 for key in REVISIONS if key in found}
        return found
