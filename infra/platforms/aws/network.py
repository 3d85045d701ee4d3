"""The VPC: subnets of each zone, ways out, endpoints, and the record of connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi

from infra.platforms.aws import iam, keys
from infra.platforms.aws.resource import AwsResource, Scope
from infra.platforms.aws.subnets import ZoneSubnets, subnets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.config.aws import NetworkConfig

ANYWHERE = "0.0.0.0/0"
HTTPS = 443

ONLY_PUBLIC = {
    "ipBlock": {
        "cidr": ANYWHERE,
        "except": ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"],
    }
}
"""Peer of a network policy: whatever is outside, and no neighbour."""

ENDPOINTS = ("ecr.api", "ecr.dkr", "sts", "logs", "eks-auth")
"""Services that nodes and pods ask all the time: their traffic stays inside, and costs less than through NAT."""

ENDPOINTS_WITHOUT_NAT = ("ec2", "eks", "elasticloadbalancing", "autoscaling", "kms", "secretsmanager", "sqs", "ssm")
"""The others, without which a VPC that has no way out cannot run a cluster."""

FLOW_LOG_SECONDS = 60
"""Connections are written down once a minute: an incident is a matter of minutes, not of ten."""


@dataclass(frozen=True, kw_only=True)
class NetworkArgs:
    """What the network is made from."""

    scope: Scope
    config: NetworkConfig
    log_key: AwsResource
    """Encrypts the record of connections."""


class Network(pulumi.ComponentResource):
    """One VPC over two or three zones.

    Public subnets have NAT gateways and the load balancer, private ones nodes and pods, data subnets databases and
    brokers: these have no route out at all.
    """

    vpc: AwsResource
    public: Sequence[pulumi.Output[str]]
    private: Sequence[pulumi.Output[str]]
    data: Sequence[pulumi.Output[str]]
    data_cidrs: Sequence[str]

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:platforms:AwsNetwork", name, {}, opts)
        self._args, self._scope = args, args.scope
        self._child = pulumi.ResourceOptions(parent=self)
        zones = subnets(args.config.cidr, args.config.zones)
        self.vpc = self._make(
            "ec2/vpc:Vpc",
            "vpc",
            {"cidrBlock": args.config.cidr, "enableDnsSupport": True, "enableDnsHostnames": True},
            outputs=("arn", "defaultSecurityGroupId"),
        )
        self._vpc_id = self.vpc.id
        # What nobody chose allows nothing.
        self._make("ec2/defaultSecurityGroup:DefaultSecurityGroup", "default", {"ingress": [], "egress": []})
        self._internet = self._make("ec2/internetGateway:InternetGateway", "internet", {})
        self.public, self._public_tables = self._tier(zones, "public", shared=True)
        self.private, self._private_tables = self._tier(zones, "private", shared=False)
        self.data, data_tables = self._tier(zones, "data", shared=True)
        self.data_cidrs = [zone.data for zone in zones]
        self._route("public", self._public_tables[0], {"gatewayId": self._internet.id})
        self._ways_out(zones)
        self._endpoints([*self._private_tables, *data_tables])
        self._flow_log()
        self.register_outputs({"vpc": self._vpc_id})

    def _make(self, token: str, name: str, inputs: dict[str, Any], outputs: Sequence[str] = ()) -> AwsResource:
        vpc = {} if name == "vpc" else {"vpcId": self._vpc_id}
        described = {"tags": self._scope.named(name), **inputs, **vpc}
        return AwsResource(token, name, described, self._child, outputs)

    def _tier(
        self, zones: Sequence[ZoneSubnets], tier: str, *, shared: bool
    ) -> tuple[list[pulumi.Output[str]], list[AwsResource]]:
        """A subnet in each zone, and their route tables: one, or one each."""
        tables = [
            self._make("ec2/routeTable:RouteTable", f"{tier}-{zone.suffix}" if not shared else tier, {})
            for zone in (zones[:1] if shared else zones)
        ]
        ids = []
        for at, zone in enumerate(zones):
            name = f"{tier}-{zone.suffix}"
            subnet = self._make(
                "ec2/subnet:Subnet",
                name,
                {
                    "cidrBlock": getattr(zone, tier),
                    "availabilityZone": zone.zone,
                    "mapPublicIpOnLaunch": False,
                    "tags": {**self._scope.named(name), **tier_tags(self._scope.prefix, tier)},
                },
            )
            table = tables[0 if shared else at]
            association = {"subnetId": subnet.id, "routeTableId": table.id}
            AwsResource("ec2/routeTableAssociation:RouteTableAssociation", name, association, self._child)
            ids.append(subnet.id)
        return ids, tables

    def _route(self, name: str, table: AwsResource, target: dict[str, pulumi.Input[str]]) -> None:
        inputs = {"routeTableId": table.id, "destinationCidrBlock": ANYWHERE, **target}
        AwsResource("ec2/route:Route", name, inputs, self._child)

    def _ways_out(self, zones: Sequence[ZoneSubnets]) -> None:
        """NAT gateways, and the private subnets' routes to them: each zone's own, or the first one's."""
        kind = self._args.config.nat
        if kind == "none":
            return
        gateways = []
        for at, zone in enumerate(zones if kind == "perZone" else zones[:1]):
            name = f"nat-{zone.suffix}"
            address = {"domain": "vpc", "tags": self._scope.named(name)}
            allocated = AwsResource("ec2/eip:Eip", name, address, self._child, outputs=("allocationId",))
            nat = {
                "allocationId": allocated.output("allocationId"),
                "subnetId": self.public[at],
                "tags": self._scope.named(name),
            }
            # An address can be used once the VPC has its internet gateway.
            options = pulumi.ResourceOptions(parent=self, depends_on=[self._internet])
            gateways.append(AwsResource("ec2/natGateway:NatGateway", name, nat, options))
        for at, zone in enumerate(zones):
            nearest = gateways[at if kind == "perZone" else 0]
            self._route(f"private-{zone.suffix}", self._private_tables[at], {"natGatewayId": nearest.id})

    def _endpoints(self, tables: Sequence[AwsResource]) -> None:
        region = self._scope.region
        self._make(
            "ec2/vpcEndpoint:VpcEndpoint",
            "s3",
            {
                "vpcEndpointType": "Gateway",
                "serviceName": f"com.amazonaws.{region}.s3",
                "routeTableIds": [table.id for table in tables],
            },
        )
        guard = self._make(
            "ec2/securityGroup:SecurityGroup",
            "endpoints",
            {"name": f"{self._scope.prefix}-endpoints", "description": "AWS endpoints: asked from inside the VPC"},
        )
        allow_network(self._args.config.cidr, guard, "endpoints", HTTPS, self._child)
        services = ENDPOINTS + (ENDPOINTS_WITHOUT_NAT if self._args.config.nat == "none" else ())
        for service in services:
            self._make(
                "ec2/vpcEndpoint:VpcEndpoint",
                service.replace(".", "-"),
                {
                    "vpcEndpointType": "Interface",
                    "serviceName": f"com.amazonaws.{region}.{service}",
                    "privateDnsEnabled": True,
                    "subnetIds": list(self.private),
                    "securityGroupIds": [guard.id],
                },
            )

    def _flow_log(self) -> None:
        scope, days = self._scope, self._args.config.flow_log_days
        path = f"/slipway/{scope.environment}/flow"
        group = keys.log_group(scope, "flow", path, days, self._args.log_key, self._child)
        writes = iam.allow(
            ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
            [group.output("arn"), pulumi.Output.concat(group.output("arn"), ":*")],
        )
        writer = iam.role(scope, "flow-log", iam.trust("vpc-flow-logs.amazonaws.com"), [writes], self._child)
        self._make(
            "ec2/flowLog:FlowLog",
            "flow",
            {
                "trafficType": "ALL",
                "logDestinationType": "cloud-watch-logs",
                "logDestination": group.output("arn"),
                "iamRoleArn": writer.output("arn"),
                "maxAggregationInterval": FLOW_LOG_SECONDS,
            },
        )


def tier_tags(environment: str, tier: str) -> dict[str, str]:
    """By which Karpenter finds the subnets of a tier."""
    return {"slipway.dev/environment": environment, "slipway.dev/tier": tier}


def blocks(cidrs: pulumi.Output[list[str]]) -> pulumi.Output[list[dict[str, Any]]]:
    """Peers of a network policy: addresses of those ranges."""
    return cidrs.apply(lambda known: [{"ipBlock": {"cidr": each}} for each in known])


def allow_network(cidr: str, group: AwsResource, name: str, port: int, opts: pulumi.ResourceOptions) -> AwsResource:
    """Lets a range of addresses reach a port of a security group's members."""
    return _ingress({"cidrIpv4": cidr}, group, name, port, opts)


def allow_group(
    source: pulumi.Input[str], group: AwsResource, name: str, port: int, opts: pulumi.ResourceOptions
) -> AwsResource:
    """Lets members of another security group, by its id, reach a port of a security group's members."""
    return _ingress({"referencedSecurityGroupId": source}, group, name, port, opts)


def _ingress(
    source: dict[str, pulumi.Input[str]], group: AwsResource, name: str, port: int, opts: pulumi.ResourceOptions
) -> AwsResource:
    inputs = {
        "securityGroupId": group.id,
        "description": f"{name}: port {port}",
        "ipProtocol": "tcp",
        "fromPort": port,
        "toPort": port,
        **source,
    }
    return AwsResource("vpc/securityGroupIngressRule:SecurityGroupIngressRule", name, inputs, opts)
