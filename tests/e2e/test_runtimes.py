"""Releases on other runtimes and nodes than the usual: KServe's, and those with GPUs."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from tests.e2e.callers import Callers
from tests.e2e.conftest import ACCELERATOR, GPUS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

MODEL = "tumour"
"""Served by KServe, beside the model that is not."""

SMALL = {"cpu": "25m", "cpuLimit": "1"}
RELEASE = {"model": "models:/breast-cancer/1", "resources": SMALL}
ON_GPU = {"model": "models:/breast-cancer/1", "resources": {**SMALL, "gpu": 1, "accelerator": ACCELERATOR}}


@pytest.fixture(scope="module")
def golden(site):
    return site.artifact("1", "data/bundle/golden.json")["rows"]


@pytest.fixture(scope="module", autouse=True)
def deployed(site):
    """KServe, a model of it with two releases, and a release with a GPU; the stack file as it was in the end."""
    original = site.stack_file.read_text()

    def add(config):
        config["slipway:addons"] = {"kserve": {"enabled": True}}
        config["slipway:platform"]["gpus"] = {ACCELERATOR: GPUS}
        models = config["slipway:models"]
        models["breast-cancer"]["releases"]["gpu"] = ON_GPU
        models[MODEL] = {
            "kind": "realtime", "runtime": "kserve", "releases": {"v1": RELEASE, "v2": RELEASE}, "traffic": {"v1": 100},
        }  # fmt: skip

    try:
        site.edit(add)
        started = time.monotonic()
        site.slipway("up")
        site.figure("make up, with KServe, two releases of it and one with a GPU more", time.monotonic() - started, "s")
        yield
    finally:
        site.stack_file.write_text(original)
    site.pulumi("up", "--yes", "--skip-preview")
    site.pulumi("preview", "--expect-no-changes")
    kinds = site.kubectl("get", "customresourcedefinitions", "-o", "name")
    assert "serving.kserve.io" not in kinds, "an add-on that is switched off takes its kinds with it"


def endpoint(site):
    return f"http://127.0.0.1:{site.port}/models/{MODEL}"


def test_kserve_serves_what_training_said_and_nothing_changes_afterwards(site, golden):
    services = json.loads(site.kubectl("get", "inferenceservices", "-n", "slipway-models", "-o", "json"))["items"]
    ready = {
        each["metadata"]["name"]: condition["status"]
        for each in services
        for condition in each["status"]["conditions"]
        if condition["type"] == "Ready"
    }
    assert ready == {f"{MODEL}-v1": "True", f"{MODEL}-v2": "True"}
    body = {"instances": [row["features"] for row in golden]}
    answer = httpx.post(f"{endpoint(site)}/v1/models/{MODEL}:predict", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == pytest.approx([row["probability"] for row in golden], abs=1e-6)
    site.pulumi("preview", "--expect-no-changes")


def test_under_kserve_no_request_fails_from_one_release_to_the_next_and_back(site, golden):
    rows = [row["features"] for row in golden]
    with Callers(endpoint(site), rows, pause=0.03) as callers:
        site.slipway("rollout", "promote", MODEL, "v2")
        callers.served(100)
        site.slipway("rollout", "rollback", MODEL)
        callers.served(100)
    assert set(callers.statuses) == {200}
    assert set(callers.releases) == {"v1", "v2"}
    site.figure("KServe: answers from v1 to v2 and back, none failed", callers.statuses[200], "answers")


def test_a_release_with_a_gpu_runs_where_the_gpu_is_and_takes_it(site, golden):
    pods = json.loads(
        site.kubectl("get", "pods", "-n", "slipway-models", "-l", "slipway.dev/release=gpu", "-o", "json")
    )["items"]
    nodes = json.loads(site.kubectl("get", "nodes", "-l", f"slipway.dev/accelerator={ACCELERATOR}", "-o", "json"))
    assert {pod["spec"]["nodeName"] for pod in pods} == {node["metadata"]["name"] for node in nodes["items"]}
    assert [pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] for pod in pods] == ["1"]
    answer = site.predict(golden[0]["features"], x_model_version="gpu")
    assert answer.headers["x-model-version"] == "gpu"


def test_more_gpus_than_there_are_stop_the_preview_and_gpus_of_another_kind_stop_the_update(site, golden):
    original = site.stack_file.read_text()

    def ask(accelerator, gpu, **has):
        def change(config):
            config["slipway:platform"]["gpus"].update(has)
            resources = {**SMALL, "gpu": gpu, "accelerator": accelerator}
            config["slipway:models"]["elsewhere"] = {
                "kind": "realtime", "releases": {"v1": {**RELEASE, "resources": resources}}, "traffic": {"v1": 100},
                "startupSeconds": 10,
            }  # fmt: skip

        return change

    try:
        site.edit(ask(ACCELERATOR, GPUS))
        refused = site.pulumi("preview", check=False)
        assert refused.returncode != 0
        assert f"slipway:platform.gpus.{ACCELERATOR} is {GPUS}" in refused.stdout + refused.stderr
        site.edit(ask("nvidia-h100", 1, **{"nvidia-h100": 2}))
        failed = site.pulumi("up", "--yes", "--skip-preview", check=False)
        assert failed.returncode != 0
        pods = site.kubectl("get", "pods", "-n", "slipway-models", "-l", "slipway.dev/model=elsewhere", "-o", "json")
        [waiting] = json.loads(pods)["items"]
        reasons = {each["type"]: each.get("message", "") for each in waiting["status"]["conditions"]}
        assert "node affinity/selector" in reasons["PodScheduled"], "it goes to no node without its GPU"
        assert site.predict(golden[0]["features"]).headers["x-model-version"] == "v1", "the others serve meanwhile"
    finally:
        site.stack_file.write_text(original)
    site.pulumi("up", "--yes", "--skip-preview")
