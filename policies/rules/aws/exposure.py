"""Nothing on AWS is open to whoever comes by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.rules.aws.documents import anyone, statements
from policies.rules.rule import Properties, Rule, by_type, given

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ANYWHERE = ("0.0.0.0/0", "::/0")

BLOCKS = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")


def _bucket(properties: Properties) -> list[str]:
    missing = [each for each in BLOCKS if properties.get(each) is not True]
    return [f"the bucket may become public: {', '.join(missing)} not set"] if missing else []


def _cluster(properties: Properties) -> list[str]:
    network = properties.get("vpcConfig") or {}
    if network.get("endpointPublicAccess") is not True:
        # AWS' own default is a public endpoint.
        return (
            [] if network.get("endpointPublicAccess") is False else ["the API server is public unless said otherwise"]
        )
    open_to = [each for each in network.get("publicAccessCidrs") or ANYWHERE if each in ANYWHERE]
    return ["the whole internet reaches the API server"] if open_to else []


def _ingress(properties: Properties) -> list[str]:
    sources = [properties.get(key) for key in ("cidrIpv4", "cidrIpv6") if given(properties, key)]
    return [f"{each} may come in" for each in sources if each in ANYWHERE]


def _inline_ingress(properties: Properties) -> list[str]:
    return [
        f"{cidr} may come in"
        for rule in properties.get("ingress") or []
        for key in ("cidrBlocks", "ipv6CidrBlocks")
        for cidr in rule.get(key) or []
        if cidr in ANYWHERE
    ]


def _brokers(properties: Properties) -> list[str]:
    connectivity = (properties.get("brokerNodeGroupInfo") or {}).get("connectivityInfo") or {}
    access = (connectivity.get("publicAccess") or {}).get("type") or "DISABLED"
    return [] if access == "DISABLED" else ["the brokers have public addresses"]


def _policy(properties: Properties) -> list[str]:
    return [
        f"anyone may {', '.join(each.actions)}"
        for each in statements(properties.get("policy"))
        if each.allows and anyone(each.principal) and not each.conditional
    ]


def _is(key: str, wrong: str) -> Callable[[Properties], list[str]]:
    return lambda properties: [wrong] if properties.get(key) is True else []


JUDGED: Mapping[str, Callable[[Properties], list[str]]] = {
    "aws:ec2/securityGroup:SecurityGroup": _inline_ingress,
    "aws:ec2/subnet:Subnet": _is("mapPublicIpOnLaunch", "machines in it get public addresses"),
    "aws:eks/cluster:Cluster": _cluster,
    "aws:kms/key:Key": _policy,
    "aws:msk/cluster:Cluster": _brokers,
    "aws:rds/instance:Instance": _is("publiclyAccessible", "the internet reaches the database"),
    "aws:s3/bucketPolicy:BucketPolicy": _policy,
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": _bucket,
    "aws:sqs/queuePolicy:QueuePolicy": _policy,
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _ingress,
}


PUBLIC_ACCESS = Rule(
    name="aws-public-access",
    description="No bucket, database, broker, queue, key or API server is reached by whoever comes by.",
    remedy="close it, or name the networks and principals that may",
    check=by_type(JUDGED),
)
