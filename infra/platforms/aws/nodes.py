"""Nodes: launch templates and managed node groups, with and without GPUs."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pulumi

from infra.platforms.aws import iam
from infra.platforms.aws.resource import AwsResource, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

AMI, GPU_AMI = "BOTTLEROCKET_x86_64", "BOTTLEROCKET_x86_64_NVIDIA"
"""Bottlerocket: no shell, no package manager, a read-only root file system. The second brings NVIDIA's driver."""

ROOT_DISK, DATA_DISK = "/dev/xvda", "/dev/xvdb"
"""Bottlerocket keeps its system on the first, images and pods on the second."""
ROOT_DISK_GB = 4

NODE_POLICIES = ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonSSMManagedInstanceCore")
"""To join the cluster, to pull images, and to be looked into without SSH. Everything else is a pod's own role."""

HOPS = 1
"""Network hops that an answer of the metadata service survives: the node's own processes get it, pods do not."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A managed node group."""

    name: str
    instance_types: Sequence[str]
    count: int
    disk_gb: int
    ami: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()
    user_data: str | None = None
    """What Bottlerocket is told at its first start, as TOML."""
    spot: bool = False
    reservation: str | None = None
    """Capacity reservation that the nodes use."""


def node_role(scope: Scope, name: str, opts: pulumi.ResourceOptions) -> AwsResource:
    """What nodes are; pods are not."""
    return iam.role(scope, name, iam.trust("ec2.amazonaws.com"), [], opts, managed=NODE_POLICIES)


def managed(  # noqa: PLR0913, PLR0917 (a node group is where all of these meet)
    scope: Scope,
    group: Group,
    cluster: pulumi.Input[str],
    role: AwsResource,
    subnets: Sequence[pulumi.Input[str]],
    disk_key: AwsResource,
    parent: pulumi.Resource,
    after: Sequence[pulumi.Resource] = (),
) -> AwsResource:
    """A managed node group with a launch template of its own."""
    options = pulumi.ResourceOptions(parent=parent)
    template = AwsResource(
        "ec2/launchTemplate:LaunchTemplate",
        group.name,
        launch_template(scope, group, disk_key.output("arn")),
        options,
        outputs=("latestVersion",),
    )
    inputs: dict[str, Any] = {
        "clusterName": cluster,
        # A prefix: a change that makes another group of it, as of its instance types, brings that one up first.
        "nodeGroupNamePrefix": f"{group.name}-",
        "nodeRoleArn": role.output("arn"),
        "subnetIds": list(subnets),
        "instanceTypes": list(group.instance_types),
        "amiType": group.ami,
        "capacityType": "SPOT" if group.spot else "ON_DEMAND",
        "scalingConfig": dict.fromkeys(("minSize", "maxSize", "desiredSize"), group.count),
        "updateConfig": {"maxUnavailablePercentage": 25},
        "nodeRepairConfig": {"enabled": True},
        "launchTemplate": {
            "id": template.id,
            "version": template.output("latestVersion").apply(str),
        },
        "labels": dict(group.labels),
        "taints": [dict(taint) for taint in group.taints],
        "tags": scope.named(group.name),
    }
    return AwsResource(
        "eks/nodeGroup:NodeGroup",
        group.name,
        inputs,
        pulumi.ResourceOptions(parent=parent, depends_on=[role, *after]),
        outputs=("resources",),
    )


def launch_template(scope: Scope, group: Group, disk_key: pulumi.Input[str]) -> dict[str, Any]:
    """Encrypted disks and a metadata service that only the node itself reaches, with a session token (IMDSv2)."""
    tags = scope.named(group.name)
    inputs: dict[str, Any] = {
        "name": f"{scope.prefix}-{group.name}",
        "updateDefaultVersion": True,
        "blockDeviceMappings": [_disk(ROOT_DISK, ROOT_DISK_GB, disk_key), _disk(DATA_DISK, group.disk_gb, disk_key)],
        "metadataOptions": {
            "httpEndpoint": "enabled",
            "httpTokens": "required",
            "httpPutResponseHopLimit": HOPS,
            "instanceMetadataTags": "disabled",
        },
        "monitoring": {"enabled": True},
        "tagSpecifications": [{"resourceType": kind, "tags": tags} for kind in ("instance", "volume")],
        "tags": tags,
    }
    if group.user_data is not None:
        inputs["userData"] = base64.b64encode(group.user_data.encode()).decode()
    if group.reservation is not None:
        inputs["capacityReservationSpecification"] = {
            "capacityReservationPreference": "capacity-reservations-only",
            "capacityReservationTarget": {"capacityReservationId": group.reservation},
        }
    return inputs


def _disk(device: str, size_gb: int, key: pulumi.Input[str]) -> dict[str, Any]:
    ebs = {
        "volumeType": "gp3",
        "volumeSize": size_gb,
        "encrypted": "true",
        "kmsKeyId": key,
        "deleteOnTermination": "true",
    }
    return {"deviceName": device, "ebs": ebs}
