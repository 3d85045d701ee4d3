"""Releases on other runtimes and nodes than the usual: KServe's, and those with GPUs."""

from __future__ import annotations

import json
import tempfile

import httpx
import pytest

from tests.e2e.callers import Callers
from tests.e2e.everything import ACCELERATOR, GPUS, KSERVE_MODEL, RELEASE, SMALL

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.fixture(autouse=True)
def deployed(everything):
    """Every kind of model."""


def endpoint(site):
    return f"http://127.0.0.1:{site.port}/models/{KSERVE_MODEL}"


def test_kserve_serves_what_training_said_and_nothing_changes_afterwards(site, golden):
    services = json.loads(site.kubectl("get", "inferenceservices", "-n", "slipway-models", "-o", "json"))["items"]
    ready = {
        each["metadata"]["name"]: condition["status"]
        for each in services
        for condition in each["status"]["conditions"]
        if condition["type"] == "Ready"
    }
    assert ready == {f"{KSERVE_MODEL}-v1": "True", f"{KSERVE_MODEL}-v2": "True"}
    body = {"instances": [row["features"] for row in golden]}
    answer = httpx.post(f"{endpoint(site)}/v1/models/{KSERVE_MODEL}:predict", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == pytest.approx([row["probability"] for row in golden], abs=1e-6)
    site.pulumi("preview", "--expect-no-changes")


def test_under_kserve_no_request_fails_from_one_release_to_the_next_and_back(site, golden):
    rows = [row["features"] for row in golden]
    with Callers(endpoint(site), rows, pause=0.03) as callers:
        site.slipway("rollout", "promote", KSERVE_MODEL, "v2")
        callers.served(100)
        site.slipway("rollout", "rollback", KSERVE_MODEL)
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


def test_more_gpus_than_there_are_stop_the_preview(site):
    original = site.stack_file.read_text()
    try:
        site.edit(lambda config: config["slipway:models"].update(elsewhere=on_gpus(GPUS, ACCELERATOR)))
        refused = site.pulumi("preview", check=False)
    finally:
        site.stack_file.write_text(original)
    assert refused.returncode != 0
    assert f"slipway:platform.gpus.{ACCELERATOR} is {GPUS}" in refused.stdout + refused.stderr


def on_gpus(count, accelerator):
    """A model of one release that takes so many, and does not wait long for them."""
    resources = {**SMALL, "gpu": count, "accelerator": accelerator}
    releases = {"v1": {**RELEASE, "resources": resources}}
    return {"kind": "realtime", "releases": releases, "traffic": {"v1": 100}, "startupSeconds": 10}


def test_what_never_gets_ready_fails_the_update_with_its_reason_and_the_others_serve_on(site, golden):
    """A release whose artifact is broken, and a model whose GPUs no node has: both wait in the same update."""
    original = site.stack_file.read_text()
    broken = register_broken_version(site)

    def add(config):
        config["slipway:platform"]["gpus"]["nvidia-h100"] = 2
        config["slipway:models"]["elsewhere"] = on_gpus(1, "nvidia-h100")
        model = config["slipway:models"]["breast-cancer"]
        model["releases"]["bad"] = {"model": f"models:/breast-cancer/{broken}"}
        model["traffic"] = {"v1": 50, "bad": 50}

    try:
        site.edit(add)
        failed = site.pulumi("up", "--yes", "--skip-preview", "--continue-on-error", check=False)
        assert failed.returncode != 0
        assert "model.pt" in failed.stdout + failed.stderr, "the pod's own reason stands in what pulumi prints"
        assert "node affinity/selector" in failed.stderr, "it goes to no node without its GPU, and that is said"
        answers = [site.predict(golden[0]["features"]) for _ in range(50)]
        assert {(answer.status_code, answer.headers["x-model-version"]) for answer in answers} == {(200, "v1")}
    finally:
        site.stack_file.write_text(original)
    site.pulumi("up", "--yes", "--skip-preview")
    site.pulumi("preview", "--expect-no-changes")


def register_broken_version(site) -> str:
    """A version registered with MLflow alone, without our digest, whose TorchScript is no such thing."""
    script = """
import pathlib, sys
from mlflow import MlflowClient
from examples.breast_cancer import train as example
bundle = pathlib.Path(sys.argv[2], "bundle")
example.train(bundle)
(bundle / "model.pt").write_bytes(b"not a model")
client = MlflowClient(sys.argv[1])
run = client.create_run("0").info
client.log_artifacts(run.run_id, str(bundle), "bundle")
print(client.create_model_version(example.MODEL_NAME, f"{run.artifact_uri}/bundle", run.run_id).version)
"""
    with tempfile.TemporaryDirectory() as scratch:
        return str(site.python("-c", script, site.mlflow, scratch))
