"""What AWS would tell of a resource, beside what it was asked for: used by mocks and by the engine's mock provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT, REGION = "123456789012", "eu-central-1"


Answer = dict[str, Any]


def _kafka(name: str, inputs: dict[str, Any]) -> Answer:
    return {
        "arn": f"arn:aws:kafka:{REGION}:{ACCOUNT}:cluster/{inputs['clusterName']}/0123-4",
        "bootstrapBrokersSaslIam": "b-1.kafka.test:9098,b-2.kafka.test:9098",
    }


def _cluster(name: str, inputs: dict[str, Any]) -> Answer:
    return {
        "endpoint": f"https://{name}.eks.test",
        "certificateAuthority": {"data": "Y2E="},
        "vpcConfig": {**inputs["vpcConfig"], "clusterSecurityGroupId": "sg-cluster"},
        "identities": [],
    }


def _database(name: str, inputs: dict[str, Any]) -> Answer:
    return {
        "address": f"{name}.rds.test",
        "resourceId": f"db-{name.upper()}",
        "masterUserSecrets": [{"secretArn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:rds!{name}"}],
    }


ANSWERS: dict[str, Callable[[str, dict[str, Any]], Answer]] = {
    "aws:cloudwatch/logGroup:LogGroup": lambda _, inputs: {
        "arn": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{inputs['name']}"
    },
    "aws:ec2/eip:Eip": lambda name, _: {"allocationId": f"eipalloc-{name}"},
    "aws:ec2/launchTemplate:LaunchTemplate": lambda *_: {"latestVersion": 1},
    "aws:ecr/repository:Repository": lambda _, inputs: {
        "repositoryUrl": f"{ACCOUNT}.dkr.ecr.{REGION}.test/{inputs['name']}"
    },
    "aws:eks/cluster:Cluster": _cluster,
    "aws:eks/nodeGroup:NodeGroup": lambda name, _: {"resources": [{"autoscalingGroups": [{"name": f"asg-{name}"}]}]},
    "aws:iam/role:Role": lambda _, inputs: {"arn": f"arn:aws:iam::{ACCOUNT}:role/{inputs['name']}"},
    "aws:kms/key:Key": lambda name, _: {"keyId": f"key-{name}"},
    "aws:lb/loadBalancer:LoadBalancer": lambda name, _: {"dnsName": f"{name}.elb.test", "zoneId": "Z0ELB"},
    "aws:msk/cluster:Cluster": _kafka,
    "aws:msk/configuration:Configuration": lambda *_: {"latestRevision": 1},
    "aws:msk/serverlessCluster:ServerlessCluster": _kafka,
    "aws:rds/instance:Instance": _database,
    "aws:s3/bucket:Bucket": lambda _, inputs: {"arn": f"arn:aws:s3:::{inputs['bucket']}"},
    "aws:sqs/queue:Queue": lambda name, _: {"url": f"https://sqs.{REGION}.test/{name}"},
}
"""By type, where it tells more than an ARN."""


def outputs(token: str, name: str, inputs: dict[str, Any]) -> Answer:
    """Outputs of a new resource."""
    service, kind = token.split(":")[1].partition("/")[0], token.rpartition(":")[2]
    where = f":{ACCOUNT}" if service == "iam" else f"{REGION}:{ACCOUNT}"
    found = {"arn": f"arn:aws:{service}:{where}:{kind.lower()}/{inputs.get('name', name)}"}
    return {**found, **ANSWERS.get(token, lambda *_: {})(name, inputs)}
