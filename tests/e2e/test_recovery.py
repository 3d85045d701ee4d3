"""The registry's database and artifacts are lost and brought back; models go on answering."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from infra import names
from tests.e2e.callers import Callers, until

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(1800)]

LOSE = f"""
import boto3, os
client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
pages = client.get_paginator("list_objects_v2").paginate(Bucket="{names.MODELS_BUCKET}")
for key in [each["Key"] for page in pages for each in page.get("Contents", [])]:
    client.delete_object(Bucket="{names.MODELS_BUCKET}", Key=key)
os.remove(os.environ["MLFLOW_BACKEND_STORE_URI"].removeprefix("sqlite:///"))
"""
"""Run in MLflow's pod, with what it may do."""

PLATFORM = ("--namespace", names.PLATFORM_NAMESPACE)
SERVER_POD = f"--selector={names.LABEL_NAME}={names.MLFLOW}"


def registered(site):
    return json.loads(site.slipway("models", "list", "--tracking-uri", site.mlflow, "-o", "json").stdout)


def test_a_registry_that_was_lost_is_brought_back(site, golden, tmp_path):
    before, kept = registered(site), str(tmp_path / "kept")
    assert before, "there is something to lose"
    site.slipway("registry", "backup", kept)
    rows = [row["features"] for row in golden]
    with Callers(site.endpoint, rows, pause=0.05) as callers:
        site.kubectl(*PLATFORM, "exec", "--stdin", f"deployment/{names.MLFLOW}", "--", "python", "-", stdin=LOSE)
        site.kubectl(*PLATFORM, "delete", "pod", SERVER_POD, "--wait=true")
        site.kubectl(*PLATFORM, "rollout", "status", f"deployment/{names.MLFLOW}", "--timeout=120s", timeout=130)
        assert registered(site) == [], "MLflow has started with nothing"
        lost = site.pulumi("preview", check=False)
        assert "the registry has no model breast-cancer" in lost.stdout + lost.stderr
        started = time.monotonic()
        site.slipway("registry", "restore", kept)
        site.figure("slipway registry restore", time.monotonic() - started, "s")
    assert set(callers.statuses) == {200}, "models that run need no registry"
    assert registered(site) == before
    site.pulumi("preview", "--expect-no-changes")


def test_a_release_that_is_loaded_from_what_came_back_answers_as_before(site, golden):
    original = site.stack_file.read_text()
    rows = [row["features"] for row in golden]
    try:
        site.edit(
            lambda config: config["slipway:models"]["breast-cancer"]["releases"].update(
                back={"model": "models:/breast-cancer/1"}
            )
        )
        site.pulumi("up", "--yes", "--skip-preview")
        answer = site.predict(rows, x_model_version="back")
        assert answer.headers["x-model-version"] == "back"
        assert answer.json()["probability"] == pytest.approx([row["probability"] for row in golden], abs=1e-6)
    finally:
        site.stack_file.write_text(original)
    site.pulumi("up", "--yes", "--skip-preview")


def test_a_restore_that_is_killed_leaves_a_registry_that_says_so_and_comes_back(site, tmp_path):
    before, kept = registered(site), str(tmp_path / "kept")
    site.slipway("registry", "backup", kept)
    command = [sys.executable, "-m", "tools.cli.main", "registry", "restore", kept]
    with subprocess.Popen(command, cwd=site.checkout, env=site.variables, start_new_session=True) as restore:
        # Between the server's pod and the one that restores, where the database is nobody's.
        until(lambda: site.kubectl(*PLATFORM, "get", "pods", SERVER_POD, "--output=name") == "")
        os.killpg(restore.pid, signal.SIGKILL)
    refused = site.slipway("registry", "backup", str(tmp_path / "other"), check=False)
    assert "MLflow rests → a restore is under way, or was killed" in refused.stderr
    site.slipway("up")
    assert registered(site) == before


def test_what_was_registered_since_the_backup_is_not_lost_unless_told(site, tmp_path):
    kept, model = str(tmp_path / "kept"), "since-the-backup"
    site.slipway("registry", "backup", kept)
    created = httpx.post(f"{site.mlflow}/api/2.0/mlflow/registered-models/create", json={"name": model})
    assert created.status_code == 200
    refused = site.slipway("registry", "restore", kept, check=False)
    assert refused.returncode != 0
    assert "a restore would lose that" in refused.stderr
    where = {"params": {"name": model}}
    still = httpx.get(f"{site.mlflow}/api/2.0/mlflow/registered-models/get", **where)
    assert still.status_code == 200, "the server is back, with what it had"
    site.slipway("registry", "restore", kept, "--discard-newer")
    gone = httpx.get(f"{site.mlflow}/api/2.0/mlflow/registered-models/get", **where)
    assert gone.json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"
