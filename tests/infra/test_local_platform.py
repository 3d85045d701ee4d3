from __future__ import annotations

import ast

import pytest

from infra import names
from infra.deploy import deploy
from infra.platforms.local.object_store import BOOTSTRAP_SCRIPT
from tests.infra.recording import GENERATED, record, stack

PREVIEW = pytest.mark.parametrize("preview", [False, True], ids=["update", "preview"])


def environment(*, preview=False, **keys):
    return record(lambda: deploy(stack(**keys)), preview=preview)


@PREVIEW
def test_an_environment_without_models_deploys_and_asks_no_registry(preview):
    recorded = environment(preview=preview)
    assert recorded.outputs["endpoints"] == {}
    assert recorded.outputs["mlflow"] == "http://127.0.0.1:8080/mlflow"


@PREVIEW
def test_a_preview_declares_the_same_objects_as_an_update(preview):
    recorded = environment(preview=preview)
    assert len(recorded.resources) == len(environment().resources), (
        "a resource declared inside an Output's apply is missing from the preview"
    )


@pytest.mark.parametrize(
    "namespace",
    [names.PLATFORM_NAMESPACE, names.MODELS_NAMESPACE, names.ISTIO_NAMESPACE, names.INGRESS_NAMESPACE],
)
def test_every_namespace_is_restricted_and_denies_all_traffic_first(namespace):
    recorded = environment()
    labels = recorded.one("Namespace", namespace)["metadata"]["labels"]
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "warn", "audit")} == {"restricted"}
    denied = recorded.one("NetworkPolicy", f"{namespace}-default-deny")
    assert denied["metadata"]["namespace"] == namespace
    assert denied["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}, "a rule here would allow"


def test_only_the_server_and_the_bootstrap_see_the_root_credentials_of_s3():
    users = {
        name
        for kind in ("Deployment", "Job")
        for name, resource in environment().of(kind).items()
        if "object-store-root" in str(resource.inputs)
    }
    assert users == {"object-store", "object-store-bootstrap"}, "MLflow has a user of its own, of its bucket alone"


def test_credentials_are_generated_and_reach_pods_through_secrets_only():
    recorded = environment()
    holders = {resource.kind for resource in recorded.resources if GENERATED in str(resource.inputs)}
    assert holders == {"Secret"}, f"a credential in {holders - {'Secret'}} can be read by whoever may read that"


def test_mlflow_answers_only_to_its_own_names():
    arguments = environment().one("Deployment", "mlflow")["spec"]["template"]["spec"]["containers"][0]["args"]
    hosts = next(argument for argument in arguments if argument.startswith("--allowed-hosts=")).split("=")[1].split(",")
    assert "127.0.0.1:8080" in hosts, "the gateway passes the caller's Host header on"
    assert "mlflow.slipway-platform.svc.cluster.local:5000" in hosts, "that is where releases fetch their models"
    assert not [host for host in hosts if "*" in host], "a wildcard lets a DNS rebinding attack through"


def test_the_gateway_listens_where_the_stack_says():
    recorded = environment(platform={"kind": "local", "gatewayPort": 9090})
    ports = recorded.one("Release", "istio-ingress")["values"]["service"]["ports"]
    assert [port.get("nodePort") for port in ports] == [None, 9090]
    assert recorded.outputs["gateway"] == "http://127.0.0.1:9090"
    arguments = recorded.one("Deployment", "mlflow")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert any("127.0.0.1:9090" in argument for argument in arguments), "MLflow refuses hosts that it does not know"


def test_istiod_configures_a_stock_envoy():
    values = environment().one("Release", "istiod")["values"]
    assert values["telemetry"] == {"enabled": False}
    left_out = {"PILOT_ENABLE_METADATA_EXCHANGE": "false", "PILOT_ENABLE_ALPN_FILTER": "false"}
    assert left_out.items() <= values["env"].items(), (
        "stock Envoy refuses a configuration with Istio's own filters, and the gateway never becomes ready"
    )
    assert "@sha256:" in values["image"]
    assert "@sha256:" in values["global"]["proxy"]["image"]


def test_volumes_survive_the_pods_that_use_them():
    recorded = environment()
    for name in ("mlflow", "object-store"):
        spec = recorded.one("Deployment", name)["spec"]
        assert spec["strategy"] == {"type": "Recreate"}, "two pods must never write one SQLite file or bucket tree"
        volumes = spec["template"]["spec"]["volumes"]
        claims = [
            volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume
        ]
        assert claims, f"{name} would lose everything with its pod"
        assert set(claims) <= set(recorded.of("PersistentVolumeClaim")), "a claim that nothing declares"


def test_the_bootstrap_runs_again_when_its_script_changes(monkeypatch, tmp_path):
    before = environment().one("Job", "object-store-bootstrap")
    changed = tmp_path / "bootstrap.py"
    changed.write_text("print('another')")
    monkeypatch.setattr("infra.platforms.local.object_store.BOOTSTRAP_SCRIPT", changed)
    after = environment().one("Job", "object-store-bootstrap")
    assert before["spec"]["template"] != after["spec"]["template"], "a Job that does not change does not run"


def test_the_bootstrap_script_needs_nothing_of_this_repository():
    tree = ast.parse(BOOTSTRAP_SCRIPT.read_text())
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    ours = {name for name in imported if name.split(".")[0] in {"infra", "services", "tools"}}
    assert not ours, "it runs in the MLflow image, where this repository is not installed"
