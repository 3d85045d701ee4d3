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
        self._scope, self._args, self._child = args.scope, args, pulumi.ResourceOptions(parent=self)
        config, tags = args.config, args.scope.named("gateway")
        balancer = AwsResource(
            "lb/loadBalancer:LoadBalancer",
            "gateway",
            {
                "name": args.scope.prefix,
                "loadBalancerType": "network",
                "internal": config.internal,
                "subnets": list(args.network.private if config.internal else args.network.public),
                "securityGroups": [self._guard().id],
                "enableCrossZoneLoadBalancing": True,
                "enableDeletionProtection": args.scope.protect,
                "tags": tags,
            },
            self._child,
            outputs=("arn", "dnsName", "zoneId"),
        )
        listener = {
            "loadBalancerArn": balancer.output("arn"),
            "port": network.HTTPS,
            "protocol": "TLS",
            "sslPolicy": TLS_POLICY,
            "certificateArn": config.certificate,
            "defaultActions": [{"type": "forward", "targetGroupArn": self._targets().output("arn")}],
            "tags": tags,
        }
        AwsResource("lb/listener:Listener", "gateway", listener, self._child)
        self._record(balancer)
        self.register_outputs({"address": balancer.output("dnsName")})

    def _guard(self) -> AwsResource:
        """Who may call, and that calls go on to the gateway's port of the nodes and nowhere else."""
        inputs = {
            "name": f"{self._scope.prefix}-gateway",
            "description": "Callers of the gateway",
            "vpcId": self._args.network.vpc.id,
            "tags": self._scope.named("gateway"),
        }
        guard = AwsResource("ec2/securityGroup:SecurityGroup", "gateway", inputs, self._child)
        for source in sources(self._args.config, self._args.vpc_cidr):
            name = f"gateway-{source.replace('/', '-')}"
            network.allow_network(source, guard, name, network.HTTPS, self._child)
        passing = {
            "description": "from the load balancer to the gateway's port on every node",
            "ipProtocol": "tcp",
            "fromPort": NODE_PORT,
            "toPort": NODE_PORT,
        }
        out = {**passing, "securityGroupId": guard.id, "referencedSecurityGroupId": self._args.nodes_group}
        AwsResource("vpc/securityGroupEgressRule:SecurityGroupEgressRule", "gateway", out, self._child)
        into = {**passing, "securityGroupId": self._args.nodes_group, "referencedSecurityGroupId": guard.id}
        AwsResource("vpc/securityGroupIngressRule:SecurityGroupIngressRule", "gateway-nodes", into, self._child)
        return guard

    def _targets(self) -> AwsResource:
        """Every system node, as many as there are."""
        inputs = {
            "name": self._scope.prefix,
            "port": NODE_PORT,
            "protocol": "TCP",
            "targetType": "instance",
            "vpcId": self._args.network.vpc.id,
            "deregistrationDelay": DRAIN_SECONDS,
            "preserveClientIp": "true",
            "healthCheck": {"protocol": "TCP", "interval": 10, "healthyThreshold": 2, "unhealthyThreshold": 2},
            "tags": self._scope.named("gateway"),
        }
        targets = AwsResource("lb/targetGroup:TargetGroup", "gateway", inputs, self._child, outputs=("arn",))
        scaled = self._args.nodes.output("resources").apply(lambda it: str(it[0]["autoscalingGroups"][0]["name"]))
        attachment = {"autoscalingGroupName": scaled, "lbTargetGroupArn": targets.output("arn")}
        AwsResource("autoscaling/attachment:Attachment", "gateway", attachment, self._child)
        return targets

    def _record(self, balancer: AwsResource) -> None:
        """The name that callers use, where its zone is known."""
        config = self._args.config
        if config.zone_id is None:
            return
        alias = {"name": balancer.output("dnsName"), "zoneId": balancer.output("zoneId"), "evaluateTargetHealth": True}
        record = {"zoneId": config.zone_id, "name": config.host, "type": "A", "aliases": [alias]}
        AwsResource("route53/record:Record", "gateway", record, self._child)


def sources(config: GatewayConfig, vpc_cidr: str) -> Sequence[str]:
    """Networks that may call: those that are named, and the VPC itself."""
    return [*dict.fromkeys([*config.sources, *([vpc_cidr] if config.internal or not config.sources else [])])]
