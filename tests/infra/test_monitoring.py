from __future__ import annotations

import json
import re

import pytest
import yaml

from infra.addons import custom_metrics
from infra.deploy import deploy
from infra.k8s.security import UID
from infra.telemetry import alerts, dashboards, queries, runbooks, scraping
from infra.telemetry.alerts import Objective
from services.contract import HTTP_PORT, LATENCY_BOUNDS, Metric, Route
from tests.infra.recording import CERTIFICATE, realtime, record, resolve_without_registry, stack

PREVIEW = pytest.mark.parametrize("preview", [False, True], ids=["update", "preview"])


def deployed(*, preview=False, **keys):
    config = stack(models={"fraud": realtime()}, **keys)
    return record(lambda: deploy(config, resolve_without_registry), preview=preview)


def pod_of(recorded, name):
    return recorded.one("Deployment", name)["spec"]["template"]


def files_of(recorded):
    volumes = {volume["name"]: volume for volume in pod_of(recorded, "prometheus")["spec"]["volumes"]}
    return volumes["config"]["configMap"]["name"]


def config_of(recorded):
    return recorded.one("ConfigMap", "prometheus")["data"]


@PREVIEW
def test_the_stack_says_where_prometheus_answers(preview):
    assert deployed(preview=preview).outputs["prometheus"] == "http://127.0.0.1:8080/prometheus"


def test_without_monitoring_nothing_of_it_is_declared_and_no_image_is_needed():
    recorded = deployed(addons={"monitoring": {"enabled": False}})
    assert not [resource.name for resource in recorded.resources if "prometheus" in resource.name]
    assert "prometheus" not in recorded.outputs


def test_prometheus_scrapes_the_route_and_port_of_the_contract():
    config = yaml.safe_load(config_of(deployed())["prometheus.yml"])
    [models, gateway] = config["scrape_configs"]
    assert models["metrics_path"] == Route.METRICS
    assert {"action": "keep", "source_labels": ["__meta_kubernetes_pod_container_port_number"],
            "regex": str(HTTP_PORT)} in models["relabel_configs"]  # fmt: skip
    assert models["kubernetes_sd_configs"] == [{"role": "pod", "namespaces": {"names": ["slipway-models"]}}]
    assert gateway["kubernetes_sd_configs"] == [{"role": "pod", "namespaces": {"names": ["istio-ingress"]}}]


def test_prometheus_looks_for_the_labels_that_pods_of_a_release_have():
    recorded = deployed()
    labels = pod_of(recorded, "fraud-v1")["metadata"]["labels"]
    discovered = {f"__meta_kubernetes_pod_label_{re.sub('[^a-zA-Z0-9_]', '_', label)}" for label in labels}
    asked = {
        source
        for rule in scraping.MODELS_PODS
        for source in rule["source_labels"]
        if source.startswith("__meta_kubernetes_pod_label_")
    }
    injected = "__meta_kubernetes_pod_label_security_istio_io_tlsMode"  # by istiod, where it gives a sidecar
    assert asked <= {*discovered, injected}


@pytest.mark.parametrize(
    ("cluster", "found"),
    [
        ("outbound|8080||fraud-v1.slipway-models.svc.cluster.local", ("fraud", "v1")),
        ("outbound|8081||fraud-detector-v10.slipway-models.svc.cluster.local", ("fraud-detector", "v10")),
        ("outbound|5000||mlflow.slipway-platform.svc.cluster.local", None),
        ("outbound|8080||fraud-v1.slipway-models-2.svc.cluster.local", None),
        ("prometheus_stats", None),
    ],
)
def test_the_gateways_name_of_a_service_splits_into_model_and_release(cluster, found):
    match = re.fullmatch(scraping.RELEASE_OF_CLUSTER, cluster)
    assert (match.groups() if match else None) == found


def test_a_changed_objective_rolls_prometheus_and_a_changed_release_does_not():
    def files(**model):
        config = stack(models={"fraud": realtime(**model)})
        recorded = record(lambda: deploy(config, resolve_without_registry), preview=False)
        return files_of(recorded)

    other = {"v1": {"model": "models:/breast-cancer/1"}, "v2": {"model": "models:/breast-cancer/2"}}
    assert files() == files(releases=other), "a rollout must not lose seconds of what it is judged by"
    config = stack(models={"other": realtime()})
    recorded = record(lambda: deploy(config, resolve_without_registry), preview=False)
    assert files_of(recorded) != files()


def test_prometheus_may_read_pods_of_what_it_scrapes_and_nothing_else():
    recorded = deployed()
    roles = {name: role.inputs for name, role in recorded.of("Role").items() if name.startswith("prometheus")}
    assert {role["metadata"]["namespace"] for role in roles.values()} == {"slipway-models", "istio-ingress"}
    for role in roles.values():
        assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]


def test_only_what_asks_the_api_server_gets_a_token():
    recorded = deployed()
    with_token = {
        name
        for name, deployment in recorded.of("Deployment").items()
        if deployment.inputs["spec"]["template"]["spec"]["automountServiceAccountToken"]
    }
    assert with_token == {"prometheus", "prometheus-adapter"}


def test_scraping_is_allowed_on_both_ends():
    recorded = deployed()
    policies = {name: policy.inputs["spec"] for name, policy in recorded.of("NetworkPolicy").items()}
    assert policies["prometheus-scrapes-models"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": HTTP_PORT}]
    assert policies["prometheus-scrapes-gateway"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": 15090}]
    allowed = {port["port"] for rule in policies["prometheus-policy"]["egress"] for port in rule["ports"]}
    assert allowed == {HTTP_PORT, 15090, 443, 6443}


def test_prometheus_runs_as_every_pod_of_ours():
    pod = pod_of(deployed(), "prometheus")["spec"]
    assert pod["securityContext"]["runAsUser"] == UID
    [container] = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    written = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert "--storage.tsdb.path=/prometheus" in container["args"]
    assert "/prometheus" in written


def test_settings_reach_prometheus():
    settings = {"scrapeSeconds": 5, "retentionHours": 100, "memory": "1Gi", "volume": "9Gi"}
    recorded = deployed(addons={"monitoring": settings})
    [container] = pod_of(recorded, "prometheus")["spec"]["containers"]
    assert "--storage.tsdb.retention.time=100h" in container["args"]
    assert container["resources"]["limits"]["memory"] == "1Gi"
    assert recorded.one("PersistentVolumeClaim", "prometheus")["spec"]["resources"]["requests"]["storage"] == "9Gi"
    assert yaml.safe_load(config_of(recorded)["prometheus.yml"])["global"]["scrape_interval"] == "5s"


def test_dashboards_are_found_by_grafana_and_are_json():
    recorded = deployed()
    for name in dashboards.dashboards():
        config_map = recorded.one("ConfigMap", f"dashboard-{name}")
        assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
        [content] = config_map["data"].values()
        assert json.loads(content)["panels"]


def test_every_alert_has_a_runbook_and_every_runbook_an_alert():
    groups = alerts.rule_file([Objective(model="fraud", p99_ms=50)], ["cards"])["groups"]
    rules = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert {rule["alert"] for rule in rules} == set(runbooks.TEXTS)
    for rule in rules:
        assert rule["annotations"]["runbook"].startswith("1. "), "steps, the first one first"
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_an_objective_without_latency_promises_none():
    text = yaml.safe_dump(alerts.rule_file([Objective(model="fraud")]))
    assert "LatencyBudgetBurn" not in text
    assert "ErrorBudgetBurn" in text


@pytest.mark.parametrize(("p99_ms", "bound"), [(50, 0.05), (60, 0.1), (1, 0.001), (60_000, LATENCY_BOUNDS[-1])])
def test_a_latency_is_judged_by_the_first_bucket_that_holds_it(p99_ms, bound):
    assert Objective(model="fraud", p99_ms=p99_ms).bound == bound


def test_a_generous_objective_alerts_before_everything_fails():
    rules = alerts.model_alerts(Objective(model="fraud", error_rate=0.5))
    limits = [float(rule["expr"].rpartition("> ")[2]) for rule in rules if rule["alert"] == "ErrorBudgetBurn"]
    assert limits == [0.95] * 3, "14.4 × 0.5 is a share that no outage reaches"


def test_the_autoscaler_may_ask_for_the_metric_by_which_models_scale():
    recorded = deployed()
    [rule] = recorded.one("ClusterRole", "prometheus-adapter-client-role")["rules"]
    assert rule["resources"] == [f"pods/{custom_metrics.METRIC}"]
    bound = recorded.one("ClusterRoleBinding", "prometheus-adapter-client")["subjects"]
    assert bound == [{"kind": "ServiceAccount", "name": "horizontal-pod-autoscaler", "namespace": "kube-system"}]
    assert Metric.REQUEST_RATE in custom_metrics.RULES["rules"][0]["seriesQuery"]


def test_the_metrics_api_is_trusted_by_its_own_authority_alone():
    spec = deployed().one("APIService", "prometheus-adapter")["spec"]
    assert "insecureSkipTLSVerify" not in spec
    assert spec["caBundle"] == "Z2VuZXJhdGVkLWF1dGhvcml0eQ==", CERTIFICATE["ca"]


def test_verdicts_name_no_series_that_the_service_does_not_have():
    known = {str(metric) for metric in Metric}
    for name, query in queries.VERDICTS.items():
        asked = set(re.findall(r"slipway_[a-z_]+", query("m", "v1", "1m").replace('"slipway-models"', "")))
        stems = {re.sub(r"_(bucket|count|sum)$", "", series) if series not in known else series for series in asked}
        assert stems <= known, name
