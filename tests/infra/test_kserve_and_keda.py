from __future__ import annotations

import json

import pytest

from infra.addons import kserve
from infra.addons.keda import hosts
from infra.config.parse import BuildRecords, parse
from infra.deploy import deploy
from infra.errors import ConfigError
from services.contract import Env
from services.inference import storage
from tests.infra.recording import RECORDS, realtime, record, resolve_without_registry, stack

BOTH = {"kserve": {"enabled": True}, "keda": {"enabled": True}}
PREVIEW = pytest.mark.parametrize("preview", [False, True], ids=["update", "preview"])


def deployed(*, preview=False, addons=BOTH):
    config = stack(models={"fraud": realtime()}, addons=addons)
    return record(lambda: deploy(config, resolve_without_registry), preview=preview)


@PREVIEW
def test_both_are_declared_where_the_stack_wants_them(preview):
    recorded = deployed(preview=preview)
    assert {"kserve", "keda-operator", "keda-metrics-api"} <= set(recorded.of("Deployment"))
    assert {"kserve-kinds", "keda-kinds"} <= set(recorded.of("Release"))


def test_neither_is_declared_otherwise():
    names = {resource.name for resource in deployed(addons={}).resources}
    assert not {name for name in names if "kserve" in name or "keda" in name}


def test_what_a_stack_does_not_want_needs_neither_image_nor_charts():
    own = {name: image for name, image in RECORDS.images.items() if name not in {"kserve", "keda"}}
    records = BuildRecords(images=own, istio_charts="/istio")
    values = {"slipway:platform": '{"kind": "local"}', "slipway:models": "{}"}
    assert parse(values, records).addons.kserve.charts is None
    with pytest.raises(ConfigError) as raised:
        parse({**values, "slipway:addons": json.dumps(BOTH)}, records)
    said = "\n".join(raised.value.problems)
    for key in ("images.kserve", "images.keda", "addons.kserve.charts", "addons.keda.charts"):
        assert f"slipway:{key}: missing" in said


def test_kserve_makes_deployments_and_leaves_routes_to_us():
    settings = {key: json.loads(text) for key, text in kserve.configuration().items()}
    assert settings["deploy"] == {"defaultDeploymentMode": "Standard"}
    assert settings["ingress"]["disableIngressCreation"] is True
    assert settings["ingress"]["disableIstioVirtualHost"] is True


def test_every_sidecar_that_kserve_could_inject_has_the_limits_that_it_checks():
    settings = {key: json.loads(text) for key, text in kserve.configuration().items()}
    for sidecar in ("storageInitializer", "agent", "batcher", "logger"):
        # pkg/webhook/admission/pod: an empty quantity refuses every pod.
        assert all(settings[sidecar][key] for key in ("cpuRequest", "cpuLimit", "memoryRequest", "memoryLimit"))


def test_a_webhook_that_is_down_stops_pods_of_inference_services_only():
    recorded = deployed()
    hooks = recorded.one("MutatingWebhookConfiguration", "kserve-mutating")["webhooks"]
    [pods] = [hook for hook in hooks if hook["rules"][0]["resources"] == ["pods"]]
    assert pods["objectSelector"]["matchExpressions"] == [
        {"key": "serving.kserve.io/inferenceservice", "operator": "Exists"}
    ]


def test_webhooks_call_a_service_that_is_declared_by_a_name_that_its_certificate_has():
    recorded = deployed()
    hooks = [
        *recorded.one("MutatingWebhookConfiguration", "kserve-mutating")["webhooks"],
        *recorded.one("ValidatingWebhookConfiguration", "kserve-validating")["webhooks"],
    ]
    called = {(hook["clientConfig"]["service"]["name"], hook["clientConfig"]["service"]["namespace"]) for hook in hooks}
    assert called == {("kserve", "kserve")}
    assert recorded.one("Service", "kserve")["metadata"]["namespace"] == "kserve"
    assert recorded.one("ServingCertificate", "kserve")["hosts"] == ["kserve.kserve.svc"]


def test_kserve_fetches_models_of_the_registry_with_the_image_that_knows_how():
    recorded = deployed()
    spec = recorded.one("ClusterStorageContainer", "kserve-storage")["spec"]
    assert spec["supportedUriFormats"] == [{"prefix": "models:/"}]
    container = spec["container"]
    assert container["image"] == RECORDS.images["inference"]
    assert container["command"][-1] == storage.__name__, "the module exists under that name"
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    assert environment[Env.MLFLOW_TRACKING_URI] == "http://mlflow.slipway-platform.svc.cluster.local:5000"
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_keda_answers_another_api_than_prometheus_adapter():
    recorded = deployed()
    groups = {name: api.inputs["spec"]["group"] for name, api in recorded.of("APIService").items()}
    assert groups == {"keda": "external.metrics.k8s.io", "prometheus-adapter": "custom.metrics.k8s.io"}


def test_keda_is_confined_to_the_models_namespace():
    recorded = deployed()
    for name in ("keda-operator", "keda-metrics-api"):
        [container] = recorded.one("Deployment", name)["spec"]["template"]["spec"]["containers"]
        environment = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert environment["WATCH_NAMESPACE"] == "slipway-models"
        assert environment["KEDA_RESTRICT_SECRET_ACCESS"] == "true"
    everywhere = recorded.one("ClusterRole", "keda-role")["rules"]
    assert not [rule for rule in everywhere if "secrets" in rule["resources"] or "*" in rule["resources"]]


def test_keda_calls_its_operator_by_a_name_of_its_certificate():
    recorded = deployed()
    [container] = recorded.one("Deployment", "keda-metrics-api")["spec"]["template"]["spec"]["containers"]
    assert f"--metrics-service-address={hosts()[0]}:9666" in container["args"]
    assert recorded.one("Service", "keda-operator")["spec"]["ports"][0]["port"] == 9666
    assert recorded.one("ServingCertificate", "keda")["hosts"] == hosts()
