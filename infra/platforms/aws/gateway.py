"""The way in: a network load balancer that ends TLS and passes on to the gateway's port on every system node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from infra.platforms.aws import network
from infra.platforms.aws.resource import AwsResource, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.config.aws import GatewayConfig
    from infra.platforms.aws.network import Network

NODE_PORT = 30443
"""Where the gateway's Service answers on every node."""

TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"
"""TLS 1.3, or 1.2 with forward secrecy and authenticated ciphers."""

DRAIN_SECONDS = 60
"""Connections to a node that goes have so long to end."""


@dataclass(frozen=True, kw_only=True)
class GatewayArgs:
    """What the way in is made from."""

    scope: Scope
    config: GatewayConfig
    network: Network
    vpc_cidr: str
    nodes: AwsResource
    """The node group whose nodes take the traffic."""
    nodes_group: pulumi.Input[str]
    """Their security group."""


class LoadBalancer(pulumi.ComponentResource):
    """Made here and not by a controller in the cluster: nothing there needs rights over load balancers."""

    def __init__(self, name: str, args: GatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:platforms:AwsGateway", name, {}, opts)
        scope, config, child = args.scope, args.config, pulumi.ResourceOptions(parent=self)
        guard = AwsResource(
            "ec2/securityGroup:SecurityGroup",
            "gateway",
            {
                "name": f"{scope.prefix}-gateway",
                "description": "Callers of the gateway",
                "vpcId": args.network.vpc.id,
                "tags": scope.named("gateway"),
            },
            child,
        )
        for source in sources(config, args.vpc_cidr):
            network.allow_network(source, guard, f"gateway-{source.replace('/', '-')}", network.HTTPS, child)
        passing = {
            "securityGroupId": guard.id,
            "description": "to the gateway's port on every node",
            "ipProtocol": "tcp",
            "fromPort": NODE_PORT,
            "toPort": NODE_PORT,
            "referencedSecurityGroupId": args.nodes_group,
        }
        AwsResource("vpc/securityGroupEgressRule:SecurityGroupEgressRule", "gateway", passing, child)
        nodes_guard = {
            "securityGroupId": args.nodes_group,
            "description": "from the load balancer",
            "ipProtocol": "tcp",
            "fromPort": NODE_PORT,
            "toPort": NODE_PORT,
            "referencedSecurityGroupId": guard.id,
        }
        AwsResource("vpc/securityGroupIngressRule:SecurityGroupIngressRule", "gateway-nodes", nodes_guard, child)
        balancer = AwsResource(
            "lb/loadBalancer:LoadBalancer",
            "gateway",
            {
                "name": scope.prefix,
                "loadBalancerType": "network",
                "internal": config.internal,
                "subnets": list(args.network.private if config.internal else args.network.public),
                "securityGroups": [guard.id],
                "enableCrossZoneLoadBalancing": True,
                "enableDeletionProtection": scope.protect,
                "tags": scope.named("gateway"),
            },
            child,
            outputs=("arn", "dnsName", "zoneId"),
        )
        targets = AwsResource(
            "lb/targetGroup:TargetGroup",
            "gateway",
            {
                "name": scope.prefix,
                "port": NODE_PORT,
                "protocol": "TCP",
                "targetType": "instance",
                "vpcId": args.network.vpc.id,
                "deregistrationDelay": DRAIN_SECONDS,
                "preserveClientIp": "true",
                "healthCheck": {"protocol": "TCP", "interval": 10, "healthyThreshold": 2, "unhealthyThreshold": 2},
                "tags": scope.named("gateway"),
            },
            child,
            outputs=("arn",),
        )
        AwsResource(
            "lb/listener:Listener",
            "gateway",
            {
                "loadBalancerArn": balancer.output("arn"),
                "port": network.HTTPS,
                "protocol": "TLS",
                "sslPolicy": TLS_POLICY,
                "certificateArn": config.certificate,
                "defaultActions": [{"type": "forward", "targetGroupArn": targets.output("arn")}],
                "tags": scope.named("gateway"),
            },
            child,
        )
        scaled = args.nodes.output("resources").apply(lambda it: str(it[0]["autoscalingGroups"][0]["name"]))
        attachment = {"autoscalingGroupName": scaled, "lbTargetGroupArn": targets.output("arn")}
        AwsResource("autoscaling/attachment:Attachment", "gateway", attachment, child)
        if config.zone_id is not None:
            alias = {
                "name": balancer.output("dnsName"),
                "zoneId": balancer.output("zoneId"),
                "evaluateTargetHealth": True,
            }
            record = {"zoneId": config.zone_id, "name": config.host, "type": "A", "aliases": [alias]}
            AwsResource("route53/record:Record", "gateway", record, child)
        self.register_outputs({"address": balancer.output("dnsName")})


def sources(config: GatewayConfig, vpc_cidr: str) -> Sequence[str]:
    """Networks that may call: those that are named, and the VPC itself."""
    return [*dict.fromkeys([*config.sources, *([vpc_cidr] if config.internal or not config.sources else [])])]
