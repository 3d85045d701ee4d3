"""A real Ray cluster of a head and two workers that loses first a worker, then its head."""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.contract import BATCH_MODULE, Env, directory_digest
from services.inference.adapters.batch.errors import EngineFailed
from tests.processes import Process
from tools.chaos.world import CONFIG

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PARTS = 6

CODE = """
import os, time
from pathlib import Path

class Model:
    def load(self, directory):
        pass

    def predict(self, inputs, parameters):
        gate = Path(PLACE) / str(int(inputs["x"][0]))
        if gate.exists():
            gate.with_suffix(".at").write_text(str(os.getpid()))
        while gate.exists():
            time.sleep(0.01)
        return {"prediction": inputs["x"] * 2}
"""
"""Waits at a part while a file has its number, and writes beside it which process waits."""


@pytest.fixture
def gates(tmp_path):
    """A folder whose files stop the model at parts of their names."""
    folder = tmp_path / "gates"
    folder.mkdir()
    return folder


@pytest.fixture
def cache():
    """Sockets lie there, and their paths may have 107 characters."""
    with tempfile.TemporaryDirectory(prefix="b-") as directory:
        yield directory


@pytest.fixture
def start(tmp_path, gates, cache):
    """Starts a job on six parts; all write to places of their own, by the same timestamp."""
    model, source = tmp_path / "model", tmp_path / "in.parquet"
    model.mkdir()
    (model / "config.yaml").write_text(CONFIG)
    (model / "model.py").write_text(CODE.replace("PLACE", repr(str(gates))))
    pq.write_table(pa.table({"x": np.repeat(np.arange(1.0, PARTS + 1), 10)}), source, row_group_size=10)

    def start(engine, output, name):
        environment = {
            "PATH": os.environ["PATH"],
            "RAY_gcs_rpc_server_reconnect_timeout_s": "2",  # otherwise a driver waits for its head for a minute
            Env.MODEL_NAME: "gates",
            Env.MODEL_URI: str(model),
            Env.MODEL_DIGEST: directory_digest(model),
            Env.CACHE_DIR: cache,
            Env.BATCH_INPUT: str(source),
            Env.BATCH_OUTPUT: str(output),
            Env.BATCH_PART_ROWS: "10",
            Env.BATCH_TIMESTAMP: "2026-11-26T02:00:00Z",
            Env.BATCH_ENGINE: engine,
            Env.BATCH_WORKERS: "2",
            Env.LOG_LEVEL: "error",
        }
        started.append(Process([sys.executable, "-m", BATCH_MODULE], tmp_path / name, environment))
        return started[-1]

    started = []
    yield start
    for process in started:
        process.stop()


def head_of(cache):
    """Processes of the head of the cluster whose files are there."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            program, _, arguments = (directory / "cmdline").read_text().partition("\0")
        except OSError:
            continue  # it has ended
        if program.endswith(("/gcs_server", "/raylet")) and cache in arguments:
            found.append(int(directory.name))
    return found


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_lost_worker_costs_a_part_and_a_lost_head_the_run_but_no_finished_part(tmp_path, gates, cache, start):
    # No part waits behind the last one, and so none for the gate.
    gate = gates / str(PARTS)
    gate.touch()
    output, undisturbed = tmp_path / "tables" / "out", tmp_path / "tables" / "whole"

    def waiting():
        at = gate.with_suffix(".at")
        return int(at.read_text()) if at.exists() and at.read_text() else None

    def waiting_again():
        return now if (now := waiting()) != first else None

    def finished():
        records = sorted(output.glob("_parts/*/part-*.json"))
        return records if len(records) == PARTS - 1 else None

    lost = start("ray", output, "lost")
    first = lost.until(waiting, "no worker comes to the last part")
    os.kill(first, signal.SIGKILL)
    lost.until(waiting_again, "nobody begins the lost worker's part again")
    records = {record: record.stat().st_mtime_ns for record in lost.until(finished, "the other parts are not finished")}
    head = head_of(cache)
    assert len(head) == 2, "a head is two processes"
    for pid in head:
        os.kill(pid, signal.SIGKILL)
    assert lost.wait() == EngineFailed.exit_code
    assert lost.stdout.read_text() == ""
    told = lost.stderr.read_text().splitlines()[-1]
    assert told.startswith("slipway: Ray: ")
    assert told.count("→") == 2, "value, rule, remedy"
    assert not (output / "_manifest.json").exists()
    assert {record: record.stat().st_mtime_ns for record in records} == records, "what was finished is kept"

    gate.unlink()
    resumed, whole = start("local", output, "resumed"), start("local", undisturbed, "whole")
    assert (resumed.wait(), whole.wait()) == (0, 0), resumed.stderr.read_text()
    assert json.loads(resumed.stdout.read_text())["rows"] == PARTS * 10
    assert contents(output) == contents(undisturbed), "every byte is as of a run that lost nothing"
