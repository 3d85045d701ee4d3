"""Karpenter: makes nodes for pods that wait, within the pools' bounds. Used where a pool asks for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi

from infra.k8s import helm
from infra.k8s.manifest import declare
from infra.platforms.aws import access, iam, node_pools
from infra.platforms.aws.resource import AwsResource, Scope, document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.platforms.aws.cluster import Cluster
    from infra.platforms.aws.iam import Statement
    from infra.platforms.aws.node_pools import NodePool

CHART, CHART_VERSION = "oci://public.ecr.aws/karpenter/karpenter", "1.13.0"
NAMESPACE, ACCOUNT = "kube-system", "karpenter"

QUEUE_SECONDS = 300
"""A warning is of no use for longer: spot nodes have two minutes."""

WARNINGS: Mapping[str, tuple[str, str]] = {
    "health": ("aws.health", "AWS Health Event"),
    "spot": ("aws.ec2", "EC2 Spot Instance Interruption Warning"),
    "rebalance": ("aws.ec2", "EC2 Instance Rebalance Recommendation"),
    "state": ("aws.ec2", "EC2 Instance State-change Notification"),
}
"""Events that tell that a node is about to go."""


@dataclass(frozen=True, kw_only=True)
class KarpenterArgs:
    """What Karpenter is made from."""

    scope: Scope
    cluster: Cluster
    pools: Sequence[NodePool]
    kubernetes: pulumi.ProviderResource


class Karpenter(pulumi.ComponentResource):
    """Controller, its role and the queue that warns it, and the pools."""

    def __init__(self, name: str, args: KarpenterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:platforms:AwsKarpenter", name, {}, opts)
        scope, cluster = args.scope, args.cluster
        child = pulumi.ResourceOptions(parent=self)
        inside = pulumi.ResourceOptions(parent=self, provider=args.kubernetes)
        queue = self._queue(scope, child)
        nodes_role = cluster.node_role
        role = iam.role(
            scope,
            "karpenter",
            iam.trust(iam.POD_IDENTITY),
            statements(scope, nodes_role.output("arn"), queue.output("arn")),
            child,
        )
        association = access.associate(cluster.name, NAMESPACE, ACCOUNT, role, child)
        values = {
            "settings": {"clusterName": scope.prefix, "interruptionQueue": queue.output("name")},
            "serviceAccount": {"name": ACCOUNT},
            "controller": {
                "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}}
            },
        }
        installed = helm.release(
            "karpenter",
            CHART,
            NAMESPACE,
            pulumi.ResourceOptions.merge(inside, pulumi.ResourceOptions(depends_on=[association, *cluster.ready])),
            values=values,
            version=CHART_VERSION,
        )
        after = pulumi.ResourceOptions.merge(inside, pulumi.ResourceOptions(depends_on=[installed]))
        for pool in args.pools:
            role_name = nodes_role.output("name")
            made = node_pools.node_class(pool, scope.prefix, role_name, scope.named(pool.name))
            declare(pool.name, node_pools.node_pool(pool), pulumi.ResourceOptions.merge(
                inside, pulumi.ResourceOptions(depends_on=[declare(f"{pool.name}-class", made, after)])
            ))  # fmt: skip
        self.register_outputs({})

    def _queue(self, scope: Scope, child: pulumi.ResourceOptions) -> AwsResource:
        inputs = {
            "name": f"{scope.prefix}-karpenter",
            "messageRetentionSeconds": QUEUE_SECONDS,
            "sqsManagedSseEnabled": True,
            "tags": scope.named("karpenter"),
        }
        queue = AwsResource("sqs/queue:Queue", "karpenter", inputs, child, outputs=("arn", "url"))
        told: list[dict[str, Any]] = [
            {
                "Effect": "Allow",
                "Principal": {"Service": ["events.amazonaws.com", "sqs.amazonaws.com"]},
                "Action": "sqs:SendMessage",
                "Resource": queue.output("arn"),
                "Condition": iam.confused_deputy(scope),
            },
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": "sqs:*",
                "Resource": queue.output("arn"),
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            },
        ]
        policy = {"queueUrl": queue.output("url"), "policy": document(told)}
        AwsResource("sqs/queuePolicy:QueuePolicy", "karpenter", policy, child)
        for warning, (source, kind) in WARNINGS.items():
            rule = {
                "name": f"{scope.prefix}-karpenter-{warning}",
                "description": kind,
                "eventPattern": json.dumps({"source": [source], "detail-type": [kind]}),
                "tags": scope.named(f"karpenter-{warning}"),
            }
            made = AwsResource("cloudwatch/eventRule:EventRule", f"karpenter-{warning}", rule, child)
            target = {"rule": made.output("name"), "arn": queue.output("arn")}
            AwsResource("cloudwatch/eventTarget:EventTarget", f"karpenter-{warning}", target, child)
        return queue


def statements(scope: Scope, node_role: pulumi.Input[str], queue: pulumi.Input[str]) -> Sequence[Statement]:
    """What Karpenter may, after its documentation: make what it tags as this cluster's, and end no more than that."""
    region, cluster = scope.region, scope.prefix
    owned = f"kubernetes.io/cluster/{cluster}"

    def ec2(*kinds: str, owner: str = "*") -> list[pulumi.Input[str]]:
        return [f"arn:aws:ec2:{region}:{owner}:{kind}/*" for kind in kinds]

    def tagged(where: str) -> dict[str, Any]:
        return {
            "StringEquals": {f"aws:{where}/{owned}": "owned"},
            "StringLike": {f"aws:{where}/karpenter.sh/nodepool": "*"},
        }

    run = ["ec2:RunInstances", "ec2:CreateFleet"]
    made = ("fleet", "instance", "volume", "network-interface", "launch-template", "spot-instances-request")
    creating = tagged("RequestTag")
    creating["StringEquals"] = {
        **creating["StringEquals"],
        "ec2:CreateAction": ["RunInstances", "CreateFleet", "CreateLaunchTemplate"],
    }
    profiles = [scope.arn("iam", "instance-profile/*", regional=False)]
    return [
        iam.allow(run, [*ec2("image", "snapshot", owner=""), *ec2("security-group", "subnet", "capacity-reservation")]),
        iam.allow(run, ec2("launch-template"), tagged("ResourceTag")),
        iam.allow([*run, "ec2:CreateLaunchTemplate"], ec2(*made), tagged("RequestTag")),
        iam.allow(["ec2:CreateTags"], ec2(*made), creating),
        iam.allow(["ec2:TerminateInstances", "ec2:DeleteLaunchTemplate"], ec2("instance", "launch-template"),
                  tagged("ResourceTag")),
        iam.allow(["ec2:Describe*"], ["*"], {"StringEquals": {"aws:RequestedRegion": region}}),
        iam.allow(["ssm:GetParameter"], [f"arn:aws:ssm:{region}::parameter/aws/service/*"]),
        iam.allow(["pricing:GetProducts"], ["*"]),
        iam.allow(["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"], [queue]),
        iam.allow(["iam:PassRole"], [node_role], {"StringEquals": {"iam:PassedToService": ["ec2.amazonaws.com"]}}),
        iam.allow(["iam:CreateInstanceProfile", "iam:TagInstanceProfile"], profiles,
                  {"StringEquals": {f"aws:RequestTag/{owned}": "owned"}}),
        iam.allow(["iam:AddRoleToInstanceProfile", "iam:RemoveRoleFromInstanceProfile", "iam:DeleteInstanceProfile"],
                  profiles, {"StringEquals": {f"aws:ResourceTag/{owned}": "owned"}}),
        iam.allow(["iam:GetInstanceProfile"], profiles),
        iam.allow(["eks:DescribeCluster"], [scope.arn("eks", f"cluster/{cluster}")]),
    ]  # fmt: skip
