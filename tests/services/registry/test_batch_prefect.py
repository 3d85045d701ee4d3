"""A batch job's process and a Prefect server: its runs and their states are in the server's API."""

import json
import os
import subprocess
import sys
from importlib.metadata import version

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.contract import BATCH_MODULE, Env
from services.inference.adapters.batch.errors import InvalidInput
from tests.processes import Process, free_port

pytestmark = pytest.mark.slow

PARTS = 3
FASTAPI = "fastapi==0.139.0"
"""The oldest that the server takes: it uses `min_items`, which the newest has no more."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Prefect's server, of the client's version: in an environment of its own, as it takes no fastapi of ours."""
    directory = tmp_path_factory.mktemp("prefect")
    port = free_port()
    tool = ["uv", "tool", "run", "--python", sys.executable, "--with", FASTAPI]
    prefect = [*tool, "--from", f"prefect=={version('prefect-client')}", "prefect"]
    server = Process(
        [*prefect, "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        directory,
        {
            **os.environ,
            "PREFECT_HOME": str(directory),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        },
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/") as api:

        def healthy():
            try:
                return True if api.get("health").is_success else None
            except httpx.TransportError:
                return None

        try:
            server.until(healthy, "Prefect's server does not start")
            yield server, api
        finally:
            server.stop()


@pytest.fixture(scope="module")
def run(server, bundle, golden, tmp_path_factory):
    """Runs a job on the golden rows; its exit code, and its flow run once that has ended."""
    directory = tmp_path_factory.mktemp("job")
    rows = [row["features"] for row in golden]
    pq.write_table(pa.Table.from_pylist(rows * PARTS), directory / "in.parquet", row_group_size=len(rows))
    running, api = server

    def runs(name, source="in.parquet"):
        environment = {
            "PATH": os.environ["PATH"],
            Env.MODEL_NAME: "breast-cancer",
            Env.MODEL_URI: str(bundle),
            Env.CACHE_DIR: str(directory / "cache"),
            Env.BATCH_INPUT: str(directory / source),
            Env.BATCH_OUTPUT: str(directory / name),
            Env.BATCH_PART_ROWS: str(len(rows)),
            Env.PREFECT_API_URL: str(api.base_url).rstrip("/"),
        }
        command = [sys.executable, "-m", BATCH_MODULE]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

        def ended():
            found = api.post("flow_runs/filter", json={}).json()
            of_ours = [each for each in found if each["parameters"]["output"] == str(directory / name)]
            return of_ours[0] if of_ours and of_ours[0]["state_type"] in ("COMPLETED", "FAILED") else None

        return done, running.until(ended, f"no flow run has ended: {done.stderr}")

    return runs


def test_a_job_is_a_flow_run_and_its_steps_are_task_runs(run, server):
    done, flow_run = run("whole")
    assert done.returncode == 0, done.stderr
    loggers = {json.loads(line)["logger"].partition(".")[0] for line in done.stderr.splitlines()}
    assert loggers == {"slipway"}, "the log is the job's own, without a line for each request to Prefect"
    running, api = server
    assert flow_run["state_type"] == "COMPLETED"
    assert api.get(f"flows/{flow_run['flow_id']}").json()["name"] == "batch_inference"

    def all_ended():  # the server hears of tasks by events, a moment later
        found = api.post("task_runs/filter", json={"flow_runs": {"id": {"any_": [flow_run["id"]]}}}).json()
        ended = [each["name"].rpartition("-")[0] for each in found if each["state_type"] == "COMPLETED"]
        return sorted(ended) if len(ended) >= PARTS + 2 else None

    assert running.until(all_ended, "not every task has ended") == ["commit", "prepare", *["score_part"] * PARTS]


def test_a_job_that_fails_is_a_flow_run_that_failed(run):
    done, flow_run = run("nothing", source="nothing.parquet")
    assert done.returncode == InvalidInput.exit_code
    assert flow_run["state_type"] == "FAILED"
    assert "no parquet file" in flow_run["state"]["message"]
