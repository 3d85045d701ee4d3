"""What AWS would tell of a resource, beside what it was asked for: used by mocks and by the engine's mock provider."""

from __future__ import annotations

from typing import Any

ACCOUNT, REGION = "123456789012", "eu-central-1"


def outputs(token: str, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Outputs of a new resource."""
    service, kind = token.split(":")[1].partition("/")[0], token.rpartition(":")[2]
    found: dict[str, Any] = {"arn": f"arn:aws:{service}:{REGION}:{ACCOUNT}:{kind.lower()}/{name}"}
    if token == "aws:eks/cluster:Cluster":
        found |= {
            "endpoint": f"https://{name}.eks.test",
            "certificateAuthority": {"data": "Y2E="},
            "vpcConfig": {**inputs["vpcConfig"], "clusterSecurityGroupId": "sg-cluster"},
            "identities": [],
        }
    elif token == "aws:eks/nodeGroup:NodeGroup":
        found["resources"] = [{"autoscalingGroups": [{"name": f"asg-{name}"}]}]
    elif token == "aws:rds/instance:Instance":
        found |= {
            "address": f"{name}.rds.test",
            "resourceId": f"db-{name.upper()}",
            "masterUserSecrets": [{"secretArn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:rds!{name}"}],
        }
    elif kind in {"Cluster", "ServerlessCluster"} and service == "msk":
        found |= {
            "arn": f"arn:aws:kafka:{REGION}:{ACCOUNT}:cluster/{inputs['clusterName']}/0123-4",
            "bootstrapBrokersSaslIam": "b-1.kafka.test:9098,b-2.kafka.test:9098",
        }
    elif token == "aws:kms/key:Key":
        found["keyId"] = f"key-{name}"
    elif token == "aws:ec2/launchTemplate:LaunchTemplate":
        found["latestVersion"] = 1
    elif token == "aws:ec2/eip:Eip":
        found["allocationId"] = f"eipalloc-{name}"
    elif token == "aws:lb/loadBalancer:LoadBalancer":
        found |= {"dnsName": f"{name}.elb.test", "zoneId": "Z0ELB"}
    elif token == "aws:ecr/repository:Repository":
        found["repositoryUrl"] = f"{ACCOUNT}.dkr.ecr.{REGION}.test/{inputs['name']}"
    elif token == "aws:sqs/queue:Queue":
        found["url"] = f"https://sqs.{REGION}.test/{name}"
    elif token == "aws:msk/configuration:Configuration":
        found["latestRevision"] = 1
    return found
