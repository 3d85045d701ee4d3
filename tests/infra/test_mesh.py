"""Mutual TLS up to the pods: what is declared for it, and where. In a real mesh: tests/e2e."""

from __future__ import annotations

import pytest

from infra.deploy import deploy
from infra.errors import ConfigError
from services.contract import HTTP_PORT, Route
from tests.infra.recording import realtime, record, resolve_without_registry, stack

STRICT = {"istio": {"mtls": "strict", "cni": {"bin": "/run/cni/bin", "conf": "/run/cni/net.d"}}}
SIDECAR = {"sidecar.istio.io/inject": "true"}
REFERENCE = {"kind": "reference", "stack": "acme/slipway/platform", "url": "https://models.example.com"}


@pytest.fixture(scope="module")
def strict():
    config = stack(models={"fraud": realtime()}, addons=STRICT)
    return record(lambda: deploy(config, resolve_without_registry), preview=False)


def test_pods_that_answer_have_a_sidecar_that_lets_in_nobody_without_a_certificate(strict):
    pod = strict.one("Deployment", "fraud-v1")["spec"]["template"]["metadata"]
    assert SIDECAR.items() <= pod["labels"].items()
    assert strict.one("PeerAuthentication", "istiod-strict")["spec"] == {"mtls": {"mode": "STRICT"}}
    selector = strict.one("Deployment", "fraud-v1")["spec"]["selector"]["matchLabels"]
    assert not SIDECAR.items() & selector.items(), "a Deployment's selector can never change"
    for name in ("mlflow", "prometheus"):
        labels = strict.one("Deployment", name)["spec"]["template"]["metadata"]["labels"]
        assert not SIDECAR.items() & labels.items(), f"{name} is asked by pods that have no certificate"


def test_under_kserve_they_have_one_too():
    config = stack(models={"fraud": realtime(runtime="kserve")}, addons={**STRICT, "kserve": {"enabled": True}})
    recorded = record(lambda: deploy(config, resolve_without_registry), preview=False)
    predictor = recorded.one("InferenceService", "fraud-v1")["spec"]["predictor"]
    assert SIDECAR.items() <= predictor["labels"].items()
    assert predictor["annotations"]["prometheus.io/port"] == str(HTTP_PORT)


def test_what_tells_the_metrics_of_such_a_pod_finds_them_and_may_be_asked(strict):
    annotations = strict.one("Deployment", "fraud-v1")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == Route.METRICS
    ports = [
        each["port"] for each in strict.one("NetworkPolicy", "prometheus-scrapes-models")["spec"]["ingress"][0]["ports"]
    ]
    assert ports == [HTTP_PORT, 15020]


def test_a_sidecar_reaches_the_control_plane_and_no_other_pod_of_the_models_does(strict):
    egress = strict.one("NetworkPolicy", "fraud")["spec"]["egress"]
    assert [port["port"] for rule in egress for port in rule["ports"]] == [5000, 15012]
    *_, asked = strict.one("NetworkPolicy", "istiod-policy")["spec"]["ingress"]
    assert asked["from"][0]["podSelector"]["matchLabels"] == SIDECAR
    assert [port["port"] for port in asked["ports"]] == [15012]


def test_stores_and_brokers_are_asked_without_the_sidecar(strict):
    annotations = strict.one("Deployment", "fraud-v1")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["traffic.sidecar.istio.io/includeOutboundIPRanges"] == ""
    assert annotations["traffic.sidecar.istio.io/includeOutboundPorts"] == str(HTTP_PORT), "a shadow's live release"


def test_the_plugin_goes_where_the_stack_says_the_nodes_look_for_it(strict):
    values = strict.one("Release", "istio-cni")["values"]
    assert (values["cniBinDir"], values["cniConfDir"]) == ("/run/cni/bin", "/run/cni/net.d")
    assert strict.one("Release", "istiod")["values"]["cni"] == {"enabled": True}, "or a pod would change its network"


def test_locally_there_is_none_unless_asked_for_and_elsewhere_unless_declined():
    assert [
        stack(models={}).mtls,
        stack(models={}, platform=REFERENCE).mtls,
        stack(models={}, platform=REFERENCE, addons={"istio": {"mtls": "disable"}}).mtls,
    ] == [False, True, False]
    recorded = record(lambda: deploy(stack(models={"fraud": realtime()}), resolve_without_registry), preview=False)
    assert not recorded.of("PeerAuthentication")
    assert (
        not SIDECAR.items() & recorded.one("Deployment", "fraud-v1")["spec"]["template"]["metadata"]["labels"].items()
    )


def test_what_knative_would_ask_without_a_certificate_is_refused():
    model = realtime(
        runtime="kserve", kserve={"mode": "knative"}, scaling={"min": 0, "max": 4, "requestsPerSecond": 10}
    )
    with pytest.raises(ConfigError, match=r"models\.fraud\.kserve\.mode: knative → its activator"):
        stack(models={"fraud": model}, addons={**STRICT, "kserve": {"enabled": True}})
