"""Mutual TLS up to the pods: what the gateway sends is answered, what anybody else in the cluster sends is refused."""

from __future__ import annotations

import json

import httpx
import pytest

from services.contract import HTTP_PORT, Metric
from tests.e2e.callers import until
from tools.cluster.layout import CNI_BIN, CNI_CONF

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(1800)]

MESH = {"mtls": "strict", "cni": {"bin": CNI_BIN, "conf": CNI_CONF}}

ASK = """
import json, sys, urllib.request
try:
    print(json.dumps(urllib.request.urlopen(sys.argv[1], timeout=10).status))
except OSError as error:
    print(json.dumps(type(error).__name__))
"""


@pytest.fixture(scope="module")
def meshed(site):
    """The site with sidecars, and a second release that came with them; both go again."""
    original = site.stack_file.read_text()

    def edit(config):
        config["slipway:addons"] = {**config.get("slipway:addons", {}), "istio": MESH}
        model = config["slipway:models"]["breast-cancer"]
        model["releases"]["v2"] = model["releases"]["v1"]
        model["traffic"] = {"v1": 50, "v2": 50}

    site.edit(edit)
    try:
        site.slipway("up")
        yield site
    finally:
        site.stack_file.write_text(original)
        site.pulumi("up", "--yes", "--skip-preview")


def asked(site, url):
    """What a pod without a sidecar gets."""
    found = site.kubectl("-n", "slipway-platform", "exec", "deploy/mlflow", "--", "python", "-c", ASK, url)
    return json.loads(found)


def test_both_releases_answer_through_the_gateway_and_nothing_changes_afterwards(meshed, golden):
    for release in ("v1", "v2"):
        assert meshed.predict(golden[0]["features"], x_model_version=release).status_code == 200
    assert meshed.preview_steps() == {}


def test_who_has_no_certificate_of_the_mesh_is_refused_by_the_pods_themselves(meshed):
    pods = json.loads(meshed.kubectl("-n", "slipway-models", "get", "pods", "-l", "slipway.dev/release", "-o", "json"))
    assert len(pods["items"]) == 2
    for pod in pods["items"]:
        address = pod["status"]["podIP"]
        assert asked(meshed, f"http://{address}:{HTTP_PORT}/health") == "ConnectionResetError"
    assert asked(meshed, "http://mlflow:5000/health") == 200, "or the one who asks could ask nobody"


def test_prometheus_still_scrapes_every_pod(meshed):
    def scraped():
        answer = httpx.get(
            f"http://127.0.0.1:{meshed.port}/prometheus/api/v1/query",
            params={"query": Metric.REQUEST_RATE},
        ).json()
        return {series["metric"]["release"] for series in answer["data"]["result"]}

    until(lambda: scraped() == {"v1", "v2"})
