from __future__ import annotations

import copy

import pytest

from infra.config.parse import parse
from infra.deploy import deploy
from policies.rules import RULES, evidence, namespaces, production, workloads
from policies.rules.models import REALTIME_MODEL
from tests.golden.rendering import stack_values
from tests.infra.recording import RECORDS, record, resolve_without_registry

DEPLOYMENT = "kubernetes:apps/v1:Deployment"


def deployment(**container):
    good = {
        "name": "main",
        "image": "registry.example/a@sha256:" + "a" * 64,
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        "readinessProbe": {"httpGet": {}},
        "livenessProbe": {"httpGet": {}},
        "securityContext": {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    merged = {key: value for key, value in {**good, **container}.items() if value is not None}
    return {"spec": {"template": {"spec": {"containers": [merged]}}}}


def security(**changed):
    return deployment()["spec"]["template"]["spec"]["containers"][0]["securityContext"] | changed


VIOLATIONS = [
    (workloads.IMAGE_BY_DIGEST, deployment(image="a:latest"), "container main has image a:latest"),
    (workloads.IMAGE_BY_DIGEST, deployment(image=None), "container main has image None"),
    (
        workloads.RESOURCE_LIMITS,
        deployment(resources=None),
        "container main has no requests.cpu, requests.memory, limits.cpu, limits.memory",
    ),
    (
        workloads.RESOURCE_LIMITS,
        deployment(resources={"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1"}}),
        "container main has no limits.memory",
    ),
    (workloads.PROBES, deployment(readinessProbe=None), "container main has no readinessProbe"),
    (workloads.PROBES, deployment(livenessProbe=None), "container main has no livenessProbe"),
    (workloads.RESTRICTED, deployment(securityContext=security(privileged=True)), "container main is privileged"),
    (
        workloads.RESTRICTED,
        deployment(securityContext=security(runAsNonRoot=False)),
        "container main may run as root",
    ),
    (
        workloads.RESTRICTED,
        deployment(securityContext=security(readOnlyRootFilesystem=False)),
        "container main can write its root file system",
    ),
    (
        workloads.RESTRICTED,
        deployment(securityContext=None),
        (
            "container main may run as root, may gain privileges, keeps capabilities, has no seccomp profile, "
            "can write its root file system"
        ),
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_good_deployment_violates_nothing(rule):
    assert rule.violations(DEPLOYMENT, deployment()) == []


@pytest.mark.parametrize(("rule", "properties", "wrong"), VIOLATIONS)
def test_a_violation_names_the_container_what_is_wrong_and_the_remedy(rule, properties, wrong):
    assert rule.violations(DEPLOYMENT, properties) == [f"{wrong} → {rule.remedy}"]


@pytest.mark.parametrize("kind", ["apps/v1:StatefulSet", "batch/v1:Job", "batch/v1:CronJob", "core/v1:Pod"])
def test_every_kind_that_makes_pods_is_judged(kind):
    template = deployment(image="a:1")["spec"]["template"]
    specs = {"CronJob": {"jobTemplate": {"spec": {"template": template}}}, "Pod": template["spec"]}
    properties = {"spec": specs.get(kind.rpartition(":")[2], {"template": template})}
    assert workloads.IMAGE_BY_DIGEST.violations(f"kubernetes:{kind}", properties), f"a {kind} slipped through"


def test_containers_that_initialise_a_pod_are_judged_too():
    properties = deployment()
    pod = properties["spec"]["template"]["spec"]
    pod["initContainers"] = [{**copy.deepcopy(pod["containers"][0]), "name": "init", "image": "a:1"}]
    assert "container init" in workloads.IMAGE_BY_DIGEST.violations(DEPLOYMENT, properties)[0]


def test_a_job_needs_no_probes():
    assert workloads.PROBES.violations("kubernetes:batch/v1:Job", deployment(readinessProbe=None)) == []


def test_a_pod_on_the_hosts_network_is_not_restricted():
    properties = deployment()
    properties["spec"]["template"]["spec"]["hostNetwork"] = True
    assert "the pod has hostNetwork" in workloads.RESTRICTED.violations(DEPLOYMENT, properties)[0]


@pytest.mark.parametrize(("name", "allowed"), [("nvidia", True), ("models", False)])
def test_only_what_drives_gpus_may_be_privileged(name, allowed):
    properties = {"metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}
    assert (namespaces.POD_SECURITY.violations("kubernetes:core/v1:Namespace", properties) == []) is allowed


@pytest.mark.parametrize(
    ("labels", "allowed"),
    [
        ({"pod-security.kubernetes.io/enforce": "restricted"}, True),
        ({"pod-security.kubernetes.io/enforce": "baseline"}, False),
        ({}, False),
    ],
)
def test_a_namespace_enforces_the_restricted_standard(labels, allowed):
    properties = {"metadata": {"name": "n", "labels": labels}}
    assert (namespaces.POD_SECURITY.violations("kubernetes:core/v1:Namespace", properties) == []) is allowed


def on_gpu(tolerations):
    limits = {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}
    properties = deployment(resources={"requests": {"cpu": "1", "memory": "1Gi"}, "limits": limits})
    properties["spec"]["template"]["spec"]["tolerations"] = tolerations
    return properties


@pytest.mark.parametrize(
    ("tolerations", "allowed"),
    [
        ([{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}], True),
        ([{"key": "nvidia.com/gpu", "operator": "Exists"}], True),
        ([{"operator": "Exists"}], True),
        ([{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}], False),
        ([{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}], False),
        (None, False),
    ],
)
def test_a_pod_with_a_gpu_tolerates_the_taint_of_gpu_nodes(tolerations, allowed):
    found = workloads.GPU_TOLERATION.violations(DEPLOYMENT, on_gpu(tolerations))
    assert (found == []) is allowed


def in_production(*, production=True, pinned=True, least=2, weight=100):
    return {
        "model": "fraud",
        "traffic": {"v1": weight, "v2": 100 - weight},
        "scaling": {"min": float(least)},
        "gate": {"production": production},
        "releases": {"v1": {"reference": "models:/fraud@champion", "uri": "models:/fraud/7", "pinned": pinned}},
    }


@pytest.mark.parametrize(
    ("rule", "properties", "allowed"),
    [
        (production.PINNED, in_production(), True),
        (production.PINNED, in_production(pinned=False), False),
        (production.PINNED, in_production(pinned=False, weight=0), False),
        (production.PINNED, in_production(pinned=False, production=False), True),
        (production.REPLICAS, in_production(), True),
        (production.REPLICAS, in_production(least=1), False),
        (production.REPLICAS, in_production(least=1, weight=0), True),
        (production.REPLICAS, in_production(least=1, production=False), True),
    ],
)
def test_production_names_versions_and_has_replicas(rule, properties, allowed):
    found = rule.violations(REALTIME_MODEL, properties)
    assert (found == []) is allowed
    assert all("slipway:models.fraud.releases.v1" in line for line in found)


@pytest.mark.parametrize(
    ("said", "allowed"),
    [
        ({"publicUrl": "https://m.example.com/mlflow", "login": []}, False),
        ({"publicUrl": "https://m.example.com/mlflow", "login": ["https://issuer.example.com"]}, True),
        ({"publicUrl": None, "login": []}, True),
        ({"publicUrl": "https://m.example.com/mlflow", "login": [], "production": False}, True),
    ],
)
def test_a_registry_that_is_reached_in_production_asks_who_somebody_is(said, allowed):
    found = production.LOGIN.violations(production.MLFLOW, {"production": True, **said})
    assert found == [] if allowed else "whoever reaches https://m.example.com/mlflow" in found[0]


@pytest.mark.parametrize(
    ("said", "allowed"),
    [
        ({"production": True, "mtls": False}, False),
        ({"production": True, "mtls": True}, True),
        ({"production": False, "mtls": False}, True),
    ],
)
def test_in_production_models_answer_those_alone_who_show_a_certificate(said, allowed):
    found = production.MUTUAL_TLS.violations(production.ISTIO, said)
    assert found == [] if allowed else "whoever reaches their pods" in found[0]


def test_every_rule_has_a_violating_case_here():
    elsewhere = {rule.name for rule in evidence.RULES}  # test_evidence.py
    elsewhere |= {rule.name for rule in RULES if rule.name.startswith("aws-")}  # test_aws_rules.py
    parametrized = {
        production.PINNED.name,
        production.REPLICAS.name,
        production.LOGIN.name,
        production.MUTUAL_TLS.name,
        workloads.GPU_TOLERATION.name,
    }
    judged = {rule.name for rule, _, _ in VIOLATIONS} | {namespaces.POD_SECURITY.name} | parametrized | elsewhere
    assert judged == {rule.name for rule in RULES}, "a rule that nothing violates proves nothing"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_what_the_local_stack_declares_violates_nothing(rule):
    config = parse(stack_values("local"), RECORDS)
    recorded = record(lambda: deploy(config, resolve_without_registry), preview=False)
    found = [line for each in recorded.resources for line in rule.violations(each.type, each.inputs)]
    assert found == []
