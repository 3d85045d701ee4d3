"""The check itself: what it is for, it finds."""

from __future__ import annotations

import pytest

from tests.infra.aws.sdk import problems


@pytest.mark.parametrize(
    ("token", "inputs", "said"),
    [
        ("aws:ec2/vpc:Vpc", {"cidrBlok": "10.0.0.0/16"}, ["Vpc.cidrBlok: no such input"]),
        ("aws:ec2/subnet:Subnet", {"cidrBlock": "10.0.0.0/24"}, ["Subnet.vpcId: missing"]),
        ("aws:ec2/vpc:Vpc", {"cidrBlock": "10.0.0.0/16", "anr": None}, ["Vpc.anr: no such property"]),
        (
            "aws:eks/cluster:Cluster",
            {"roleArn": "r", "vpcConfig": {"subnetIds": [], "endpointPublic": True}},
            ["Cluster.vpcConfig[0].endpointPublic: no such input"],
        ),
        ("aws:ec2/vpc:Vpc", {"cidrBlock": "10.0.0.0/16", "arn": None}, []),
    ],
)
def test_a_misspelt_a_missing_and_an_unknown_input_are_found(token, inputs, said):
    assert problems(token, inputs) == said
