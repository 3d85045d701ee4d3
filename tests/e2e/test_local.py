"""The local environment from `slipway up` to `slipway down`, on real parts, in the order a person meets them."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.callers import Callers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

TOLERANCE = 1e-6
"""Between the training-time output, computed in one batch, and the served one."""


@pytest.fixture(scope="module")
def features(golden):
    """One row by feature name."""
    return golden[0]["features"]


def test_up_ends_with_a_prediction_and_the_url_to_call_next(site):
    assert f"breast-cancer answers at {site.endpoint}" in site.up_output
    assert f"curl -s {site.endpoint}/predict" in site.up_output


def test_a_preview_right_after_shows_no_change(site):
    started = time.monotonic()
    site.pulumi("preview", "--expect-no-changes")
    site.figure("pulumi preview without a change", time.monotonic() - started, "s")


def test_a_second_up_changes_nothing_in_seconds(site):
    started = time.monotonic()
    done = site.slipway("up")
    site.figure("make up, everything running", time.monotonic() - started, "s", 180)
    assert "created" not in done.stdout
    assert "replaced" not in done.stdout


@pytest.mark.parametrize("protocol", ["predict", "v1", "v2"])
def test_served_predictions_equal_training_time_outputs(site, golden, protocol):
    rows = [row["features"] for row in golden]
    expected = [row["probability"] for row in golden]
    assert len(expected) >= 32
    if protocol == "predict":
        answer = site.predict(rows)
        served = answer.json()["probability"]
    elif protocol == "v1":
        answer = httpx.post(f"{site.endpoint}/v1/models/breast-cancer:predict", json={"instances": rows}, timeout=30)
        served = answer.json()["predictions"]
    else:
        names = list(rows[0])
        tensors = [
            {"name": name, "datatype": "FP64", "shape": [len(rows)], "data": [row[name] for row in rows]}
            for name in names
        ]
        answer = httpx.post(f"{site.endpoint}/v2/models/breast-cancer/infer", json={"inputs": tensors}, timeout=30)
        outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
        served = outputs["probability"]
    assert answer.status_code == 200
    assert served == pytest.approx(expected, abs=TOLERANCE)


def test_health_names_the_model_its_version_and_its_digest(site):
    health = httpx.get(f"{site.endpoint}/health").json()
    assert health["model"] == "breast-cancer"
    assert health["version"] == "1"
    assert health["digest"].startswith("sha256:")


def test_endpoints_and_predict_work_from_the_command_line(site, golden, features):
    assert json.loads(site.slipway("endpoints", "-o", "json").stdout) == {"breast-cancer": site.endpoint}
    registered = json.loads(site.slipway("predict", "breast-cancer", "-o", "json").stdout)
    assert registered["model_version"] == "1"
    given = json.dumps(features)
    answered = json.loads(site.slipway("predict", "breast-cancer", "--data", "-", "-o", "json", stdin=given).stdout)
    assert answered["probability"] == pytest.approx(golden[0]["probability"], abs=TOLERANCE)


def test_a_missing_feature_is_a_client_error_that_names_it(site, features):
    answer = site.predict({name: value for name, value in features.items() if name != "worst area"})
    assert answer.status_code == 422
    assert "worst area" in answer.text


def test_pods_run_unprivileged_on_read_only_file_systems(site):
    deployment = "deployment/breast-cancer-v1"
    assert site.kubectl("exec", "-n", "slipway-models", deployment, "--", "id", "-u").strip() == "10001"
    touched = site.kubectl(
        "exec", "-n", "slipway-models", deployment, "--", "sh", "-c", "touch /opt/slipway/x 2>&1 || true"
    )
    assert "Read-only file system" in touched


def test_the_registry_survives_its_pods_death(site):
    site.kubectl("delete", "pod", "-n", "slipway-platform", "-l", "app.kubernetes.io/name=mlflow", "--wait=true")
    site.kubectl("rollout", "status", "-n", "slipway-platform", "deployment/mlflow", "--timeout=25s")
    site.pulumi("preview", "--expect-no-changes")


def test_a_release_is_added_reached_by_header_given_traffic_and_removed(site, features):
    def add(config):
        config["slipway:models"]["breast-cancer"]["releases"]["v2"] = {"model": "models:/breast-cancer@champion"}

    original = site.stack_file.read_text()
    try:
        site.edit(add)
        steps = site.preview_steps()
        assert {name for name, op in steps.items() if op == "create"} == {
            name for name in steps if name.split()[1].startswith("breast-cancer-v2")
        }, "only the new release's own objects are created"
        assert {op for name, op in steps.items() if "breast-cancer-v1" in name} == set(), (
            "the live release is not touched"
        )
        started = time.monotonic()
        site.pulumi("up", "--yes", "--skip-preview")
        site.figure("add a release: pulumi up", time.monotonic() - started, "s")
        assert {site.predict(features).headers["x-model-version"] for _ in range(50)} == {"v1"}, "it has no weight yet"
        assert site.predict(features, x_model_version="v2").headers["x-model-version"] == "v2"
        assert site.predict(features, x_model_version="v9").status_code == 404, (
            "nobody answers for a release there is not"
        )
        site.edit(lambda config: config["slipway:models"]["breast-cancer"].update(traffic={"v1": 50, "v2": 50}))
        assert set(site.preview_steps().values()) == {"update"}
        site.pulumi("up", "--yes", "--skip-preview")
        counts = {"v1": 0, "v2": 0}
        for _ in range(200):
            counts[site.predict(features).headers["x-model-version"]] += 1
        assert 60 <= counts["v1"] <= 140, f"{counts}: a fair coin leaves 100 ± 40 once in a hundred million runs"
    finally:
        site.stack_file.write_text(original)
    site.pulumi("up", "--yes", "--skip-preview")
    assert {site.predict(features).headers["x-model-version"] for _ in range(50)} == {"v1"}
    site.pulumi("preview", "--expect-no-changes")


def test_no_request_fails_while_every_pod_is_replaced_and_a_killed_process_fails_only_those_it_had(site, features):
    original = site.stack_file.read_text()

    def two(config):
        config["slipway:models"]["breast-cancer"]["scaling"] = {"min": 2}

    def other(config):
        config["slipway:models"]["breast-cancer"]["releases"]["v1"]["env"] = {"SLIPWAY_MAX_BATCH_ROWS": "64"}

    try:
        site.edit(two)
        site.pulumi("up", "--yes", "--skip-preview")
        before = pods(site)
        site.edit(other)
        with Callers(site.endpoint, [features]) as callers:
            site.pulumi("up", "--yes", "--skip-preview")
            callers.served(50)
        assert not before & pods(site), "each of them was replaced"
        assert set(callers.statuses) == {200}
        site.figure("answers during a rolling restart", callers.statuses[200], "answers")
        with Callers(site.endpoint, [features]) as callers:
            os.kill(process_of(min(pods(site))), signal.SIGKILL)
            callers.served(200)
        failed = {status: count for status, count in callers.statuses.items() if status != 200}
        assert set(failed) <= {503}
        assert sum(failed.values()) <= callers.COUNT, "at most what was in flight"
    finally:
        site.stack_file.write_text(original)
    site.pulumi("up", "--yes", "--skip-preview")
    site.pulumi("preview", "--expect-no-changes")


def pods(site) -> set[str]:
    """Container ids of the live release's ready pods."""
    command = ["get", "pods", "-n", "slipway-models", "-l", "slipway.dev/release=v1", "-o", "json"]
    found = json.loads(site.kubectl(*command))["items"]
    states = [
        status
        for pod in found
        if "deletionTimestamp" not in pod["metadata"]
        for status in pod["status"]["containerStatuses"]
    ]
    return {status["containerID"].partition("://")[2] for status in states if status["ready"]}


def process_of(container: str) -> int:
    """The host's id of a container's first process."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and container in (entry / "cgroup").read_text():
                status = (entry / "status").read_text()
                if next(line for line in status.splitlines() if line.startswith("NSpid")).split()[-1] == "1":
                    return int(entry.name)
        except OSError:
            continue  # it has ended meanwhile
    pytest.fail(f"no process of container {container}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config["slipway:platform"].update(gatewayPrt=1), "gatewayPort"),
        (lambda config: config["slipway:platform"].update(gatewayPort="many"), "slipway:platform.gatewayPort"),
        (lambda config: config["slipway:models"]["breast-cancer"].update(traffic={"v1": 90}), "sums to 100"),
        (
            lambda config: config["slipway:models"]["breast-cancer"]["releases"]["v1"].update(
                model="models:/no-such/1"
            ),
            "no-such",
        ),
        (
            lambda config: config["slipway:models"]["breast-cancer"]["releases"]["v1"].update(
                model="models:/breast-cancer/99"
            ),
            "99",
        ),
    ],
)
def test_a_configuration_that_cannot_work_fails_the_preview_and_says_why(site, change, message):
    original = site.stack_file.read_text()
    try:
        site.edit(change)
        done = site.pulumi("preview", check=False)
    finally:
        site.stack_file.write_text(original)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
