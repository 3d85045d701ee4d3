from __future__ import annotations

import json
import tomllib
from base64 import b64decode
from functools import cache

import pytest
import yaml

from infra.config.accelerators import ACCELERATORS
from infra.deploy import deploy
from infra.platforms.aws.gpu_pools import MIG_MODELS
from infra.platforms.aws.iam import UNNAMEABLE
from tests.infra.aws.environment import platform
from tests.infra.aws.sdk import problems
from tests.infra.recording import realtime, record, resolve_without_registry, stack
from tests.tokens import ISSUER


@cache
def _deployed(changes, production):
    config = stack(
        platform=platform(**json.loads(changes)), models={"fraud": realtime(scaling={"min": 2})}, production=production
    )
    return record(lambda: deploy(config, resolve_without_registry), preview=False)


def deployed(*, production=True, **changes):
    return _deployed(json.dumps(changes), production)


def aws(recorded):
    return [each for each in recorded.resources if each.type.startswith("aws:")]


@pytest.mark.parametrize(
    "changes",
    [{"network": {"nat": "none"}}, {"network": {"nat": "one"}, "kafka": {"kind": "serverless"}}],
    ids=["no way out", "cheap"],
)
def test_what_no_stack_here_chooses_is_what_the_sdk_knows_too(changes):
    assert [said for each in aws(deployed(**changes)) for said in problems(each.type, each.inputs)] == []


def documents(recorded):
    """Every policy of a role, a bucket, a key or a queue, by the resource's name."""
    for each in aws(recorded):
        for key in ("policy", "assumeRolePolicy"):
            if isinstance(each.inputs.get(key), str) and "Statement" in each.inputs[key]:
                yield f"{each.type} {each.name}", json.loads(each.inputs[key])["Statement"]


def test_no_role_may_do_anything_to_everything_unless_the_api_knows_no_resources():
    loose = [
        (where, statement["Action"])
        for where, statements in documents(deployed())
        if where.startswith("aws:iam/rolePolicy")
        for statement in statements
        if "*" in statement["Resource"] and not set(statement["Action"]) <= set(UNNAMEABLE)
    ]
    assert loose == []


def test_every_role_is_taken_by_a_service_of_aws_or_by_pods_and_by_nobody_else():
    trusted = {
        service
        for where, statements in documents(deployed())
        if where.startswith("aws:iam/role:")
        for statement in statements
        for service in [statement["Principal"]["Service"]]
    }
    assert trusted == {
        "eks.amazonaws.com",
        "ec2.amazonaws.com",
        "pods.eks.amazonaws.com",
        "vpc-flow-logs.amazonaws.com",
    }


def test_no_bucket_is_public_unencrypted_unversioned_or_reached_without_tls():
    recorded = deployed()
    buckets = set(recorded.of("Bucket"))
    assert buckets == {"logs", "models", "features", "predictions"}
    for bucket in buckets:
        assert all(
            value is True
            for key, value in recorded.one("BucketPublicAccessBlock", f"{bucket}-public").items()
            if key != "bucket"
        )
        [rule] = recorded.one("BucketServerSideEncryptionConfiguration", f"{bucket}-encryption")["rules"]
        assert rule["applyServerSideEncryptionByDefault"]["sseAlgorithm"] == "aws:kms"
        assert recorded.one("BucketVersioning", f"{bucket}-versions")["versioningConfiguration"] == {
            "status": "Enabled"
        }
        statements = json.loads(recorded.one("BucketPolicy", f"{bucket}-policy")["policy"])["Statement"]
        assert any(each["Effect"] == "Deny" and "aws:SecureTransport" in str(each) for each in statements)
    assert {each.name for each in recorded.resources if each.kind == "BucketLogging"} == {
        f"{bucket}-logging" for bucket in buckets - {"logs"}
    }


def test_the_api_server_is_private_unless_networks_are_named():
    assert deployed().one("Cluster", "cluster")["vpcConfig"]["endpointPublicAccess"] is False
    opened = deployed(cluster={"publicAccess": ["203.0.113.0/24"]}).one("Cluster", "cluster")["vpcConfig"]
    assert (opened["endpointPublicAccess"], opened["publicAccessCidrs"]) == (True, ["203.0.113.0/24"])


def test_what_holds_data_is_protected_in_production_and_not_elsewhere():
    def protected(recorded):
        return {
            f"{each.kind} {each.name}"
            for each in recorded.resources
            if each.inputs.get("deletionProtection") is True or each.inputs.get("enableDeletionProtection") is True
        }

    assert protected(deployed()) == {"Cluster cluster", "Instance database", "LoadBalancer gateway"}
    assert protected(deployed(production=False)) == set()


@pytest.mark.parametrize(("nat", "gateways"), [("perZone", 3), ("one", 1), ("none", 0)])
def test_there_are_as_many_ways_out_as_were_asked_for_and_each_private_subnet_has_one(nat, gateways):
    recorded = deployed(network={"nat": nat})
    assert len(recorded.of("NatGateway")) == gateways
    routes = [name for name in recorded.of("Route") if name.startswith("private-")]
    assert len(routes) == (3 if gateways else 0)
    endpoints = set(recorded.of("VpcEndpoint"))
    assert {"s3", "ecr-api", "ecr-dkr", "sts", "logs"} <= endpoints
    assert ("secretsmanager" in endpoints) == (nat == "none"), "without a way out AWS is reached by endpoints alone"
    assert not [name for name in recorded.of("Route") if name.startswith("data")], "databases have no way out"


def test_nodes_have_encrypted_disks_and_a_metadata_service_that_pods_do_not_reach():
    templates = deployed().of("LaunchTemplate")
    assert set(templates) == {"system", "gpu-l4"}
    for template in templates.values():
        options = template.inputs["metadataOptions"]
        assert (options["httpTokens"], options["httpPutResponseHopLimit"]) == ("required", 1)
        assert all(each["ebs"]["encrypted"] == "true" for each in template.inputs["blockDeviceMappings"])


def test_a_managed_gpu_pool_has_the_label_and_the_taint_that_releases_go_by():
    found = deployed().one("NodeGroup", "gpu-l4")
    assert "nodeGroupName" not in found, "one that has to be made anew comes up before the old one goes"
    assert found["labels"]["slipway.dev/accelerator"] == "nvidia-l4"
    assert found["taints"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}]
    assert found["amiType"] == "BOTTLEROCKET_x86_64_NVIDIA"
    assert found["scalingConfig"] == {"minSize": 4, "maxSize": 4, "desiredSize": 4}


def test_a_karpenter_pool_makes_no_more_gpus_than_it_may_and_uses_its_reservation():
    recorded = deployed()
    spec = recorded.one("NodePool", "h100")["spec"]
    assert spec["limits"] == {"nvidia.com/gpu": "16"}, "two p5.48xlarge"
    requirements = {each["key"]: each["values"] for each in spec["template"]["spec"]["requirements"]}
    assert requirements["karpenter.sh/capacity-type"] == ["reserved"]
    assert recorded.one("EC2NodeClass", "h100-class")["spec"]["capacityReservationSelectorTerms"] == [
        {"id": "cr-0123456789abcdef0"}
    ]


def test_a_shared_gpu_is_a_resource_of_its_own_name():
    told = tomllib.loads(b64decode(deployed().one("LaunchTemplate", "gpu-l4")["userData"]).decode())
    assert told["settings"]["kubelet-device-plugins"]["nvidia"] == {
        "device-sharing-strategy": "time-slicing",
        "time-slicing": {"replicas": 4, "rename-by-default": True, "fail-requests-greater-than-one": True},
    }


def test_a_gpu_that_is_cut_is_cut_as_the_pool_says():
    pool = {"accelerator": "nvidia-h100", "max": 1, "instanceTypes": ["p5.48xlarge"], "sharing": {"mig": "1g.10gb"}}
    [found] = [
        each for each in deployed(gpuPools={"h100": pool}).of("EC2NodeClass").values() if each.name == "h100-class"
    ]
    told = tomllib.loads(found.inputs["spec"]["userData"])
    assert told["settings"]["kubelet-device-plugins"]["nvidia"]["mig"]["profile"] == {"h100.80gb": "1g.10gb"}


def test_every_gpu_that_can_be_cut_has_a_name_in_bottlerocket():
    assert set(MIG_MODELS) == {name for name, accelerator in ACCELERATORS.items() if accelerator.mig}


def test_karpenter_finds_the_subnets_that_nodes_belong_in():
    recorded = deployed()
    terms = recorded.one("EC2NodeClass", "h100-class")["spec"]["subnetSelectorTerms"]
    [wanted] = [term["tags"] for term in terms]
    found = {name for name, each in recorded.of("Subnet").items() if wanted.items() <= each.inputs["tags"].items()}
    assert found == {"private-a", "private-b", "private-c"}


def test_the_database_has_no_password_of_ours_and_takes_none_without_tls():
    recorded = deployed()
    found = recorded.one("Instance", "database")
    assert found["manageMasterUserPassword"] is True
    assert "password" not in found
    assert found["iamDatabaseAuthenticationEnabled"] is True
    assert found["multiAz"] is True, "in production"
    assert {"name": "rds.force_ssl", "value": "1"} in recorded.one("ParameterGroup", "database")["parameters"]


def test_kafka_takes_iam_over_tls_and_nothing_else():
    found = deployed().one("Cluster", "kafka")
    assert found["clientAuthentication"] == {"sasl": {"iam": True}, "unauthenticated": False}
    assert found["encryptionInfo"]["encryptionInTransit"] == {"clientBroker": "TLS", "inCluster": True}
    assert found["numberOfBrokerNodes"] == 3


def test_callers_come_in_by_tls_to_the_port_that_the_gateway_has_on_every_node():
    recorded = deployed()
    listener = recorded.one("Listener", "gateway")
    assert (listener["port"], listener["protocol"]) == (443, "TLS")
    assert recorded.one("TargetGroup", "gateway")["port"] == 30443
    assert recorded.one("Release", "istio-ingress")["values"]["service"]["ports"][1]["nodePort"] == 30443
    assert recorded.outputs["endpoints"] == {"fraud": "https://models.example.com/models/fraud"}


def test_kubernetes_objects_go_to_the_new_cluster_and_not_to_the_kubeconfigs():
    recorded = deployed()
    assert {each.provider for each in recorded.resources if each.type.startswith("kubernetes:")} == {"eks"}
    assert {each.provider for each in aws(recorded)} == {"aws"}
    provider = next(each for each in recorded.resources if each.type == "pulumi:providers:kubernetes")
    kubeconfig = json.loads(provider.inputs["kubeconfig"])
    assert kubeconfig["users"][0]["user"]["exec"]["command"] == "aws"
    assert "token" not in kubeconfig["users"][0]["user"], "a kubeconfig without a secret"


def test_an_accelerator_of_the_table_has_instances_that_hold_it():
    for name, accelerator in ACCELERATORS.items():
        assert accelerator.instances, name


OPEN = {"internal": False, "sources": ["203.0.113.0/24"]}


def test_a_registry_that_asks_for_tokens_is_served_to_others_and_prometheus_is_not():
    config = stack(platform=platform(gateway=OPEN), addons={"mlflow": {"login": [ISSUER]}})
    recorded = record(lambda: deploy(config, resolve_without_registry), preview=False)
    (rule,) = recorded.one("AuthorizationPolicy", "istio-ingress-closed")["spec"]["rules"]
    assert rule["to"][0]["operation"]["paths"] == ["/prometheus", "/prometheus/*"]
    assert recorded.outputs["mlflow"].endswith("/mlflow")
    assert "prometheus" not in recorded.outputs


def test_a_gateway_that_others_reach_serves_models_alone():
    config = stack(
        platform=platform(gateway=OPEN),
        registry={"url": "https://mlflow.internal.example.com"},
        models={"fraud": realtime()},
    )
    recorded = record(lambda: deploy(config, resolve_without_registry), preview=False)
    spec = recorded.one("AuthorizationPolicy", "istio-ingress-closed")["spec"]
    gateway = recorded.one("Gateway", "slipway")["spec"]["selector"]
    assert (spec["action"], spec["selector"]["matchLabels"]) == ("DENY", gateway)
    assert spec["rules"][0]["to"][0]["operation"]["paths"] == ["/mlflow", "/mlflow/*", "/prometheus", "/prometheus/*"]
    assert recorded.outputs.keys() & {"mlflow", "prometheus"} == set(), "nobody is told of what is closed"
    assert deployed().outputs.keys() >= {"mlflow", "prometheus"}
    assert not deployed().of("AuthorizationPolicy")


def test_prometheus_asks_what_tells_of_gpus_and_may():
    config = yaml.safe_load(
        next(
            each.inputs["data"]["prometheus.yml"]
            for each in deployed().of("ConfigMap").values()
            if "prometheus.yml" in each.inputs["data"]
        )
    )
    assert [job["job_name"] for job in config["scrape_configs"]][-1] == "gpus"
    reached = [
        (rule["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], rule["ports"][0]["port"])
        for rule in deployed().one("NetworkPolicy", "prometheus-policy")["spec"]["egress"]
        if rule.get("to")
    ]
    assert ("nvidia", 9400) in reached
    assert deployed().one("Role", "prometheus-gpus")["metadata"]["namespace"] == "nvidia"
