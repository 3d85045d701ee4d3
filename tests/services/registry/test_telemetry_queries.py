"""The telemetry contract: every query that alerts, dashboards, autoscaling and verdicts ask finds its series.

A real Prometheus scrapes two real services and a real Envoy in front of them, with the configuration that the program
renders; only where the targets are is said by the test, in the words of Kubernetes' service discovery. Envoy has the
statistics' names and filter of Istio's bootstrap.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from examples.breast_cancer.train import MODEL_NAME
from infra import names
from infra.addons import custom_metrics
from infra.addons.istio import RELEASE_STATS
from infra.telemetry import alerts, dashboards, queries, scraping
from services.contract import HTTP_PORT, Env, Metric
from tests.processes import Process, free_port
from tests.services.prometheus import Prometheus, answers, panels, target
from tools.toolchain import build

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REQUESTS = 200
LATE = 40
BROKEN = 20
"""Requests to a release that nothing answers for."""

FILTERS = "type.googleapis.com/envoy.extensions.filters"

RULES = alerts.rule_file([alerts.Objective(model=MODEL_NAME, p99_ms=50)])

WINDOW = "5m"
"""Longer than the test: everything that happens is within it."""


def istio_tags() -> list:
    """How Istio's bootstrap makes labels of parts of Envoy's statistics' names."""
    text = (build.share("istio") / "istio" / "envoy_bootstrap.json").read_text()
    tags = re.search(r'"stats_tags": \[(.*?)\n    \]', text, re.DOTALL).group(1)
    tags = re.sub(r"\{\{- range.*?\{\{- end \}\}", "", tags, flags=re.DOTALL)
    return yaml.safe_load(f"[{tags}]")


@dataclass(frozen=True)
class Gateway:
    """An Envoy with a listener for each release."""

    process: Process
    ports: dict[str, int]
    admin: int


def envoy_config(upstreams: dict[str, int], ports: dict[str, int], admin: int) -> dict:
    def address(port: int) -> dict:
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    def listener(release: str) -> dict:
        route = {"match": {"prefix": "/"}, "route": {"cluster": release}}
        manager = {
            "@type": f"{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "test",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": [
                {
                    "name": "router",
                    "typed_config": {"@type": f"{FILTERS}.http.router.v3.Router"},
                }
            ],
        }
        filters = [{"name": "http", "typed_config": manager}]
        return {"name": release, "address": address(ports[release]), "filter_chains": [{"filters": filters}]}

    def cluster(release: str) -> dict:
        host = names.service_host(names.workload(MODEL_NAME, release), names.MODELS_NAMESPACE)
        endpoint = {"endpoint": {"address": address(upstreams[release])}}
        return {
            "name": release,
            "alt_stat_name": f"outbound|{HTTP_PORT}||{host};",
            "load_assignment": {"cluster_name": release, "endpoints": [{"lb_endpoints": [endpoint]}]},
        }

    return {
        "admin": {"address": address(admin)},
        "stats_config": {
            "use_all_default_tags": False,
            "stats_tags": istio_tags(),
            "stats_matcher": {"inclusion_list": {"patterns": [{"safe_regex": {"regex": RELEASE_STATS}}]}},
        },
        "static_resources": {
            "listeners": [listener(release) for release in upstreams],
            "clusters": [cluster(release) for release in upstreams],
        },
    }


@pytest.fixture(scope="module")
def releases(serve, bundle):
    """Two releases of the example; the first has a shadow."""
    settings = {Env.MODEL_URI: bundle, Env.MODEL_NAME: MODEL_NAME}
    first = serve({**settings, Env.RELEASE: "v1", Env.SHADOW_URI: bundle})
    second = serve({**settings, Env.RELEASE: "v2"})
    return {"v1": first.ready(), "v2": second.ready()}


@pytest.fixture(scope="module")
def compared(releases, golden):
    """Requests that it took until the shadow was loaded and compared the first of them."""
    asked = 0
    first = releases["v1"]

    def matched() -> int | None:
        nonlocal asked
        httpx.post(f"{first.url}/predict", json={"features": golden[0]["features"]}, timeout=30).raise_for_status()
        asked += 1
        found = f'{Metric.SHADOW_ROWS}{{model="{MODEL_NAME}",release="v1",result="match"'
        return asked if found in httpx.get(f"{first.url}/metrics", timeout=30).text else None

    return first.until(matched, "the shadow does not compare")


@pytest.fixture(scope="module")
def gateway(releases, tmp_path_factory):
    upstreams = {name: int(service.url.rpartition(":")[2]) for name, service in releases.items()}
    upstreams["v3"] = free_port()
    ports, admin = {release: free_port() for release in upstreams}, free_port()
    directory = tmp_path_factory.mktemp("envoy")
    config = directory / "envoy.json"
    config.write_text(json.dumps(envoy_config(upstreams, ports, admin)))
    binary = next(Path(sys.prefix).glob("lib/python*/site-packages/envoy/_bin/envoy"))
    command = [str(binary), "--config-path", str(config), "--concurrency", "1", "--disable-hot-restart"]
    process = Process(command, directory, dict(os.environ))
    process.until(lambda: answers(f"http://127.0.0.1:{admin}/ready"), "Envoy does not start")
    yield Gateway(process, ports, admin)
    process.stop()


@pytest.fixture(scope="module")
def prometheus(releases, gateway, tmp_path_factory):
    """Prometheus as the program configures it, but for where the targets are and how often it evaluates."""
    pods = {release: target(service.url, MODEL_NAME, release) for release, service in releases.items()}
    other = target(releases["v1"].url, MODEL_NAME, "v1")
    other["labels"]["__meta_kubernetes_pod_container_port_number"] = "8081"
    gateway_labels = {
        "__meta_kubernetes_pod_container_port_number": str(scraping.GATEWAY_METRICS_PORT),
        "__meta_kubernetes_pod_name": "istio-ingress-0",
        "__meta_kubernetes_namespace": names.INGRESS_NAMESPACE,
    }
    found = {
        # The pod's second port is a target of the discovery too, and must be left out.
        queries.MODELS_JOB: [*pods.values(), other],
        queries.GATEWAY_JOB: [{"targets": [f"127.0.0.1:{gateway.admin}"], "labels": gateway_labels}],
    }
    server = Prometheus(tmp_path_factory.mktemp("prometheus"), found, RULES)
    server.until(lambda: server.value("count(up == 1) == 3"), "Prometheus does not find its targets")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def asked(prometheus, gateway, golden, compared):
    """Traffic to each release, and a Prometheus that has seen all of it."""
    body = {"features": golden[0]["features"]}
    data = list(golden[0]["features"].values())
    tensor = {"name": "x", "shape": [1, len(data)], "datatype": "FP64", "data": data}
    hurried = {"inputs": [tensor], "parameters": {"timeout": 1}}

    def ask(release: str, times: int, path: str = "/predict", body: dict = body) -> list[int]:
        with httpx.Client(base_url=f"http://127.0.0.1:{gateway.ports[release]}", timeout=30) as client:
            return [client.post(path, json=body).status_code for _ in range(times)]

    assert ask("v1", REQUESTS) == ask("v2", REQUESTS) == [200] * REQUESTS
    assert ask("v3", BROKEN) == [503] * BROKEN
    assert 504 in ask("v2", LATE, f"/v2/models/{MODEL_NAME}/infer", hurried), "a microsecond is not enough"
    total = 2 * REQUESTS + BROKEN + LATE
    seen = f"sum(envoy_cluster_upstream_rq{{{queries.BY_CLASS}}}) == {total}"
    prometheus.until(lambda: prometheus.value(seen), "Prometheus does not see every request")
    recorded = [rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule]
    prometheus.until(lambda: all(map(prometheus.ask, recorded)) or None, "the rules are not evaluated")
    shadowed = f"{queries.shadow_rows(MODEL_NAME, 'v1', WINDOW)} >= {REQUESTS}"
    prometheus.until(lambda: prometheus.value(shadowed), "Prometheus does not see every comparison")
    return prometheus


def verdicts() -> list[tuple[str, str]]:
    # Only what has failed is counted as failed: of the first release nothing has.
    asked_of = {"error ratio": "v2"}
    return [(name, query(MODEL_NAME, asked_of.get(name, "v1"), WINDOW)) for name, query in queries.VERDICTS.items()]


def rules() -> list[tuple[str, str]]:
    # Those about streams ask what a stream's worker tells: tests/services/stream.
    asked = [rule for group in RULES["groups"] if group["name"] != "slipway-streams" for rule in group["rules"]]
    return [(rule.get("alert") or rule["record"], rule["expr"]) for rule in asked]


def shown() -> list[tuple[str, str]]:
    found = dashboards.dashboards()
    return [it for name in ("overview", "realtime") for it in panels(found[name])]


def adapter() -> list[tuple[str, str]]:
    return [(rule["name"]["as"], rule["seriesQuery"]) for rule in custom_metrics.RULES["rules"]]


@pytest.mark.parametrize("source", [verdicts, rules, shown, adapter], ids=lambda it: it.__name__)
def test_every_query_finds_its_series(asked, source):
    absent = {name: found for name, query in source() if (found := asked.missing(query))}
    assert not absent, "no such series, though the service was used in every way that makes them"


@pytest.mark.parametrize("query", [query for _, query in verdicts()], ids=[name for name, _ in verdicts()])
def test_every_verdict_has_an_answer(asked, query):
    assert asked.ask(query), "the release was asked, compared and scraped"


@pytest.mark.parametrize(("name", "query"), [it for it in verdicts() if it[0] != "ready pods"])
def test_a_release_that_nobody_asked_gives_no_verdict_that_could_pass(asked, name, query):
    value = asked.value(re.sub(r'release="v\d"', 'release="v9"', query))
    assert value is None or math.isnan(value), f"{name} of no release is {value}: it would be believed"


def test_requests_are_counted_from_the_first_on(asked, compared):
    counted = {release: asked.value(queries.requests(MODEL_NAME, release, WINDOW)) for release in ("v1", "v3")}
    assert counted == {"v1": REQUESTS, "v3": BROKEN}, "`increase` alone leaves out what a counter holds when first seen"
    assert asked.value(queries.served(MODEL_NAME, "v1", WINDOW)) == REQUESTS + compared


def test_a_release_that_answers_nothing_fails_all_its_requests(asked):
    assert asked.value(queries.error_ratio(MODEL_NAME, "v3", WINDOW)) == 1.0
    assert asked.value(queries.error_ratio(MODEL_NAME, "v1", WINDOW)) == 0.0


def test_latencies_are_in_seconds_and_in_order(asked):
    p50, p99 = (asked.value(query(MODEL_NAME, "v1", WINDOW)) for query in (queries.p50, queries.p99))
    assert 0 < p50 <= p99 < 5


def test_scores_of_the_same_rows_are_not_apart_and_of_others_are(asked):
    same = asked.value(queries.score_distance(MODEL_NAME, "v1", "v1", WINDOW))
    other = asked.value(queries.score_distance(MODEL_NAME, "v1", "v2", WINDOW))
    assert same == 0.0
    assert 0.0 <= other <= 1.0
    assert asked.value(queries.scored_rows(MODEL_NAME, "v1", WINDOW)) >= REQUESTS


def test_a_shadow_of_the_same_model_agrees(asked):
    assert asked.value(queries.shadow_disagreement(MODEL_NAME, "v1", WINDOW)) == 0.0


def test_a_release_is_ready_by_its_own_word(asked):
    assert asked.value(queries.ready_pods(MODEL_NAME, "v1")) == 1.0


def test_only_releases_and_what_is_asked_for_is_kept_of_the_gateway(asked):
    kept = asked.ask(f'count by (__name__) ({{job="{queries.GATEWAY_JOB}",model!=""}})')
    assert {it["metric"]["__name__"] for it in kept} == set(queries.GATEWAY_METRICS)
    by_release = asked.ask(f"count by (release) ({queries.GATEWAY_MEMBERS})")
    assert {it["metric"]["release"] for it in by_release} == {"v1", "v2", "v3"}


def test_a_query_for_what_no_one_counts_is_found_out(asked):
    wrong = 'sum(rate(slipway_request_total{model="m"}[1m])) / sum(up)'
    assert asked.missing(wrong) == ['{model="m",__name__="slipway_request_total"}']


def test_rules_are_accepted_and_loaded(asked):
    groups = httpx.get(f"{asked.url}/api/v1/rules", timeout=30).json()["data"]["groups"]
    unwell = {rule["name"]: rule["lastError"] for group in groups for rule in group["rules"] if rule["health"] != "ok"}
    assert not unwell
    loaded = [rule for group in groups for rule in group["rules"]]
    assert len(loaded) == sum(len(group["rules"]) for group in RULES["groups"])
