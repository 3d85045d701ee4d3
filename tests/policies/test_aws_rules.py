from __future__ import annotations

import json

import pytest

from infra.deploy import deploy
from infra.platforms.aws.iam import UNNAMEABLE
from policies import cost
from policies.rules import RULES, STACK_RULES
from policies.rules.aws import data, environment, exposure, identity, nodes
from policies.rules.rule import Declared
from tests.infra.aws.environment import platform
from tests.infra.recording import realtime, record, resolve_without_registry, stack
from tests.tokens import ISSUER

DISK = {"deviceName": "/dev/xvda", "ebs": {"encrypted": "true"}}
METADATA = {"httpTokens": "required", "httpPutResponseHopLimit": 1}
LABELS = {"slipway.dev/accelerator": "nvidia-l4"}
TAINTS = [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}]


def allowing(**statement):
    return {"policy": json.dumps({"Statement": [{"Effect": "Allow", **statement}]})}


def node_pool(**changes):
    spec = {"limits": {"nvidia.com/gpu": "8"}, **changes}
    template = {"metadata": {"labels": LABELS}, "spec": {"taints": [{"key": "nvidia.com/gpu"}], "requirements": []}}
    return {"spec": {"template": template, **spec}}


VIOLATIONS = [
    (data.ENCRYPTION, "aws:cloudwatch/logGroup:LogGroup", {}, "it has no key of yours"),
    (
        data.ENCRYPTION,
        nodes.LAUNCH_TEMPLATE,
        {"blockDeviceMappings": [DISK, {"deviceName": "/dev/xvdb", "ebs": {}}]},
        "disk /dev/xvdb is not encrypted",
    ),
    (data.ENCRYPTION, "aws:ecr/repository:Repository", {}, "its images have no key of yours"),
    (data.ENCRYPTION, "aws:eks/cluster:Cluster", {}, "Secrets lie in etcd without a key of yours"),
    (data.ENCRYPTION, "aws:kms/key:Key", {}, "the key is never turned"),
    (data.ENCRYPTION, "aws:lb/listener:Listener", {"protocol": "TCP"}, "it listens for TCP"),
    (
        data.ENCRYPTION,
        "aws:msk/cluster:Cluster",
        {"encryptionInfo": {"encryptionAtRestKmsKeyArn": "arn", "encryptionInTransit": {"clientBroker": "PLAINTEXT"}}},
        "clients reach brokers without TLS",
    ),
    (data.ENCRYPTION, "aws:rds/instance:Instance", {"storageEncrypted": False}, "its disk is not encrypted"),
    (
        data.ENCRYPTION,
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
        {"rules": [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}]},
        "its objects have no key of yours",
    ),
    (data.ENCRYPTION, "aws:sqs/queue:Queue", {}, "its messages are not encrypted"),
    (
        data.ENCRYPTION,
        "kubernetes:storage.k8s.io/v1:StorageClass",
        {"provisioner": "ebs.csi.aws.com", "parameters": {}},
        "its volumes are not encrypted",
    ),
    (
        exposure.PUBLIC_ACCESS,
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
        {"blockPublicAcls": True, "ignorePublicAcls": True, "restrictPublicBuckets": True},
        "the bucket may become public: blockPublicPolicy not set",
    ),
    (
        exposure.PUBLIC_ACCESS,
        "aws:eks/cluster:Cluster",
        {"vpcConfig": {"endpointPublicAccess": True}},
        "the whole internet reaches the API server",
    ),
    (exposure.PUBLIC_ACCESS, "aws:eks/cluster:Cluster", {}, "the API server is public unless said otherwise"),
    (
        exposure.PUBLIC_ACCESS,
        "aws:rds/instance:Instance",
        {"publiclyAccessible": True},
        "the internet reaches the database",
    ),
    (
        exposure.PUBLIC_ACCESS,
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
        {"cidrIpv4": "0.0.0.0/0"},
        "0.0.0.0/0 may come in",
    ),
    (
        exposure.PUBLIC_ACCESS,
        "aws:ec2/securityGroup:SecurityGroup",
        {"ingress": [{"ipv6CidrBlocks": ["::/0"]}]},
        "::/0 may come in",
    ),
    (
        exposure.PUBLIC_ACCESS,
        "aws:ec2/subnet:Subnet",
        {"mapPublicIpOnLaunch": True},
        "machines in it get public addresses",
    ),
    (
        exposure.PUBLIC_ACCESS,
        "aws:msk/cluster:Cluster",
        {"brokerNodeGroupInfo": {"connectivityInfo": {"publicAccess": {"type": "SERVICE_PROVIDED_EIPS"}}}},
        "the brokers have public addresses",
    ),
    (
        exposure.PUBLIC_ACCESS,
        "aws:s3/bucketPolicy:BucketPolicy",
        allowing(Principal={"AWS": ["*"]}, Action="s3:GetObject", Resource="arn"),
        "anyone may s3:GetObject",
    ),
    (identity.WILDCARDS, "aws:iam/rolePolicy:RolePolicy", allowing(Action="*", Resource="arn"), "* is allowed"),
    (
        identity.WILDCARDS,
        "aws:iam/rolePolicy:RolePolicy",
        allowing(Action=["s3:*"], Resource=["arn"]),
        "s3:* is allowed",
    ),
    (
        identity.WILDCARDS,
        "aws:iam/policy:Policy",
        allowing(Action=["ec2:Describe*", "ec2:RunInstances"], Resource="*"),
        "ec2:RunInstances on every resource",
    ),
    (
        identity.WILDCARDS,
        "aws:iam/rolePolicy:RolePolicy",
        allowing(NotAction="iam:*", Resource="arn"),
        "* is allowed",
    ),
    (
        identity.WILDCARDS,
        "aws:iam/role:Role",
        {"assumeRolePolicy": allowing(Principal={"AWS": "*"}, Action="sts:AssumeRole")["policy"]},
        "anyone may take the role",
    ),
    (
        identity.WILDCARDS,
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
        {"policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
        "AdministratorAccess allows nearly everything",
    ),
    (
        nodes.IMDSV2,
        nodes.LAUNCH_TEMPLATE,
        {"metadataOptions": {"httpPutResponseHopLimit": 1}},
        "the metadata service answers without a session (IMDSv1)",
    ),
    (
        nodes.IMDSV2,
        nodes.NODE_CLASS,
        {"spec": {"metadataOptions": {**METADATA, "httpPutResponseHopLimit": 2}}},
        "its answers survive 2 hops: pods get the node's credentials",
    ),
    (
        nodes.GPU_POOL,
        nodes.NODE_GROUP,
        {"labels": LABELS, "taints": []},
        "its nodes have no taint nvidia.com/gpu",
    ),
    (
        nodes.GPU_POOL,
        nodes.NODE_GROUP,
        {"amiType": "BOTTLEROCKET_x86_64_NVIDIA", "taints": TAINTS},
        "its nodes have no label slipway.dev/accelerator",
    ),
    (
        nodes.GPU_POOL,
        nodes.NODE_POOL,
        node_pool(limits={}),
        "it may make any number of nodes: no limit of nvidia.com/gpu",
    ),
    (
        environment.TAGS,
        environment.PROVIDER,
        {"defaultTags": '{"tags": {"team": "ml"}}'},
        "what it makes has no tag slipway:environment",
    ),
]


@pytest.mark.parametrize(("rule", "type_", "inputs", "wrong"), VIOLATIONS)
def test_a_violation_is_told_with_its_remedy(rule, type_, inputs, wrong):
    assert rule.violations(type_, inputs) == [f"{wrong} → {rule.remedy}"]


PRODUCTION = Declared(environment.PLATFORM, "aws", {"production": True})
SAFE = {"deletionProtection": True, "multiAz": True, "backupRetentionPeriod": 14, "skipFinalSnapshot": False}


@pytest.mark.parametrize(
    ("type_", "inputs", "wrong"),
    [
        ("aws:rds/instance:Instance", {**SAFE, "deletionProtection": False}, "it can be deleted"),
        ("aws:rds/instance:Instance", {**SAFE, "multiAz": False}, "it has no standby in another zone"),
        ("aws:rds/instance:Instance", {**SAFE, "backupRetentionPeriod": 1.0}, "its backups are kept 1 days"),
        ("aws:rds/instance:Instance", {**SAFE, "skipFinalSnapshot": True}, "nothing is kept of it when it goes"),
        ("aws:eks/cluster:Cluster", {}, "it can be deleted"),
        ("aws:lb/loadBalancer:LoadBalancer", {}, "it can be deleted"),
        ("aws:s3/bucket:Bucket", {"forceDestroy": True}, "it is emptied when it goes"),
    ],
)
def test_what_is_unsafe_is_told_in_production_and_nowhere_else(type_, inputs, wrong):
    rule, resource = environment.PROTECTIONS, Declared(type_, "it", inputs)
    assert rule.violations([PRODUCTION, resource]) == [f"{resource.kind} it: {wrong} → {rule.remedy}"]
    assert rule.violations([resource]) == []


@pytest.mark.parametrize(
    ("type_", "inputs"),
    [
        (nodes.NODE_GROUP, {"capacityType": "SPOT"}),
        (
            nodes.NODE_POOL,
            {"spec": {"template": {"spec": {"requirements": [{"key": "capacity", "values": ["spot"]}]}}}},
        ),
    ],
)
def test_spot_nodes_are_advised_against_in_production_alone(type_, inputs):
    resource = Declared(type_, "it", inputs)
    assert len(environment.SPOT.violations([PRODUCTION, resource])) == 1
    assert environment.SPOT.violations([resource]) == []


def test_an_environment_over_its_budget_is_told_what_it_costs():
    gateway = Declared("aws:ec2/natGateway:NatGateway", "a", {})  # 730 hours at 0.045
    dear = Declared(environment.PLATFORM, "aws", {"monthlyBudget": 32})
    assert "a month costs 33 USD, the budget is 32" in environment.BUDGET.violations([dear, gateway])[0]
    enough = Declared(environment.PLATFORM, "aws", {"monthlyBudget": 33})
    assert environment.BUDGET.violations([enough, gateway]) == []


@pytest.mark.parametrize(
    ("requirement", "limits", "most"),
    [
        ({"key": "node.kubernetes.io/instance-type", "values": ["p5.48xlarge"]}, {"nvidia.com/gpu": "16"}, 2 * 55.04),
        ({"key": "karpenter.k8s.aws/instance-family", "values": ["m7i", "m6i"]}, {"cpu": "64"}, 64 * 0.0504),
    ],
)
def test_a_pool_that_makes_nodes_costs_nothing_at_least_and_its_limit_at_most(requirement, limits, most):
    priced = cost.monthly(
        [(nodes.NODE_POOL, node_pool(limits=limits, template={"spec": {"requirements": [requirement]}}))]
    )
    assert (priced.least, round(priced.most, 2)) == (0, round(most * 730, 2))


@pytest.mark.parametrize("document", [None, "04da6b54-80e4-46f7-96ec-b56ff0331ba9"])
def test_a_policy_that_is_not_known_before_the_update_is_judged_then(document):
    assert identity.WILDCARDS.violations("aws:iam/rolePolicy:RolePolicy", {"policy": document}) == []


def test_the_platform_excepts_no_action_that_the_rule_does_not():
    assert set(UNNAMEABLE) <= set(identity.NO_RESOURCES)


def test_our_own_environment_violates_nothing():
    models = {"fraud": realtime(scaling={"min": 2})}
    login = {"mlflow": {"login": [ISSUER]}}
    config = stack(platform=platform(), models=models, production=True, addons=login)
    declared = [
        Declared(each.type, each.name, each.inputs)
        for each in record(lambda: deploy(config, resolve_without_registry), preview=False).resources
    ]
    said = [line for each in declared for rule in RULES for line in rule.violations(each.type, each.properties)]
    assert said + [line for rule in STACK_RULES for line in rule.violations(declared)] == []


def test_every_rule_has_a_violation_here():
    judged = {rule.name for rule, *_ in VIOLATIONS} | {rule.name for rule in STACK_RULES}
    assert judged == {rule.name for rule in (*RULES, *STACK_RULES) if rule.name.startswith("aws-")}
