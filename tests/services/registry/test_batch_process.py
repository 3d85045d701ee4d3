"""The process of a batch job against a real S3: killed, run twice at once, refused."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.contract import BATCH_MODULE, Env, directory_digest
from services.inference.adapters.batch import errors
from tests.processes import START_SECONDS
from tests.services.conftest import S3_KEY, s3_client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KILLS = 10
PARTS = 12
PART_ROWS = 8_000


@pytest.fixture(scope="module")
def s3(gateway):
    client = s3_client(gateway)
    for bucket in ("features", "predictions"):
        client.create_bucket(Bucket=bucket)
    yield client
    client.close()


@pytest.fixture(scope="module")
def patients(s3, golden, tmp_path_factory):
    """The golden rows again and again, four files at s3://features/patients."""
    names = list(golden[0]["features"])
    rows = PARTS * PART_ROWS // 4
    repeated = np.resize([list(row["features"].values()) for row in golden], (rows, len(names)))
    for number in range(4):
        table = pa.table(
            {
                "id": pa.array(range(number * rows, (number + 1) * rows)),
                **{name: repeated[:, at] for at, name in enumerate(names)},
            }
        )
        path = tmp_path_factory.mktemp("patients") / "table.parquet"
        pq.write_table(table, path, row_group_size=PART_ROWS)
        s3.upload_file(str(path), "features", f"patients/part-{number}.parquet")
    return "s3://features/patients"


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    """Asks the process that jobs are forks of."""
    directory = tmp_path_factory.mktemp("forks")
    with (directory / "err").open("w") as err:
        parent = subprocess.Popen(
            [sys.executable, "-m", "tests.services.batch_forks", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            env={"PATH": os.environ["PATH"]},
        )
    assert parent.stdout.readline() == "ready\n", (directory / "err").read_text()

    def ask(command):
        parent.stdin.write(json.dumps(command) + "\n")
        parent.stdin.flush()
        answer = parent.stdout.readline()
        assert answer, (directory / "err").read_text()
        return int(answer)

    yield ask
    parent.stdin.close()
    parent.wait(START_SECONDS)
    parent.stdout.close()


class Job:
    """A job that runs."""

    def __init__(self, forks, settings, directory):
        self._forks = forks
        self._out, self._err = directory / "out", directory / "err"
        self.pid = forks({"start": settings, "out": str(self._out), "err": str(self._err)})

    def kill(self, number=signal.SIGKILL):
        os.kill(self.pid, number)

    def ended(self):
        code = self._forks({"wait": self.pid})
        return code, self._out.read_text(), self._err.read_text()


@pytest.fixture
def job(forks, gateway, bundle, tmp_path, tmp_path_factory):
    """Starts a job; keys are variables of the contract."""
    (tmp_path / "termination-log").touch()
    defaults = {
        "MODEL_NAME": "breast-cancer",
        "MODEL_URI": bundle,
        "MODEL_DIGEST": directory_digest(bundle),
        "CACHE_DIR": tmp_path / "cache",
        "S3_ENDPOINT_URL": gateway,
        "BATCH_PART_ROWS": PART_ROWS,
        "BATCH_TIMESTAMP": "2026-11-26T02:00:00Z",
        "LOG_LEVEL": "error",
        "TERMINATION_LOG": tmp_path / "termination-log",
    }

    def start(key=S3_KEY, **settings):
        chosen = {str(Env[name]): str(value) for name, value in {**defaults, **settings}.items()}
        environment = {**key, "PATH": os.environ["PATH"], **chosen}
        return Job(forks, environment, tmp_path_factory.mktemp("job"))

    return start


def stored(s3, prefix):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="predictions", Prefix=f"{prefix}/")
    return {entry["Key"].removeprefix(f"{prefix}/"): entry for page in pages for entry in page.get("Contents", [])}


def contents(s3, prefix):
    return {
        key: s3.get_object(Bucket="predictions", Key=f"{prefix}/{key}")["Body"].read() for key in stored(s3, prefix)
    }


def test_a_job_that_is_killed_ten_times_ends_with_the_bytes_of_one_that_is_not(s3, job, patients):
    code, out, err = job(BATCH_INPUT=patients, BATCH_OUTPUT="s3://predictions/whole").ended()
    assert code == 0, err
    seconds = json.loads(out)["seconds"]
    whole = contents(s3, "whole")
    assert json.loads(out)["rows"] == PARTS * PART_ROWS
    chance = random.Random(6)  # noqa: S311  # when to kill
    kills, left = 0, []
    while kills < KILLS:
        running = job(BATCH_INPUT=patients, BATCH_OUTPUT="s3://predictions/killed")
        timer = threading.Timer(chance.uniform(0.3, 0.9) * seconds, running.kill)
        timer.start()
        code, _, err = running.ended()
        timer.cancel()
        there = stored(s3, "killed")
        if code == 0:  # it was quicker than its end: begin anew, so that there are ten kills of a job that runs
            assert contents(s3, "killed") == whole
            for key in there:
                s3.delete_object(Bucket="predictions", Key=f"killed/{key}")
            continue
        assert code == -signal.SIGKILL, err
        assert "_manifest.json" not in there or there.keys() >= whole.keys(), "half a table was committed"
        kills += 1
        left.append(len(there))
    assert max(left) > 2, "some were killed with parts done"
    code, _, err = job(BATCH_INPUT=patients, BATCH_OUTPUT="s3://predictions/killed").ended()
    assert code == 0, err
    assert contents(s3, "killed") == whole, "every byte is as without the kills, and no object is left over"


def test_two_processes_at_once_make_one_table(s3, job, patients):
    both = [job(BATCH_INPUT=patients, BATCH_OUTPUT="s3://predictions/both") for _ in range(2)]
    ends = [each.ended() for each in both]
    assert [code for code, _, _ in ends] == [0, 0], ends
    summaries = [json.loads(out) for _, out, _ in ends]
    assert summaries[0]["job"] == summaries[1]["job"]
    manifest = json.loads(contents(s3, "both")["_manifest.json"])
    assert set(stored(s3, "both")) == {"_manifest.json", *(part["key"] for part in manifest["parts"])}
    assert manifest["rows"] == PARTS * PART_ROWS


def test_the_models_answers_are_those_of_training(s3, job, patients, golden, tmp_path):
    code, _, err = job(BATCH_INPUT=f"{patients}/part-0.parquet", BATCH_OUTPUT=tmp_path / "out").ended()
    assert code == 0, err
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    first = pq.read_table(tmp_path / "out" / manifest["parts"][0]["key"])
    expected = [row["probability"] for row in golden]
    assert first["probability"].to_pylist()[: len(golden)] == pytest.approx(expected, abs=1e-6)


def test_a_job_that_is_told_to_stop_says_so_and_keeps_what_it_has(s3, job, patients):
    running = job(BATCH_INPUT=patients, BATCH_OUTPUT="s3://predictions/stopped")
    deadline = time.monotonic() + START_SECONDS
    while len(stored(s3, "stopped")) < 3:
        assert time.monotonic() < deadline, "no part is ever done"
    running.kill(signal.SIGTERM)
    code, out, err = running.ended()
    assert code == 143, err
    assert out == ""
    assert "told to stop → finished parts are kept → run it again" in err
    assert len(stored(s3, "stopped")) >= 3


REFUSED = {
    "no input bucket": ({"BATCH_INPUT": "s3://no-such-bucket/x"}, errors.NoSuchBucket, "404 NoSuchBucket"),
    "no output bucket": ({"BATCH_OUTPUT": "s3://no-such-bucket/x"}, errors.NoSuchBucket, "create no-such-bucket"),
    "empty input": ({"BATCH_INPUT": "s3://features/nothing"}, errors.InvalidInput, "no parquet file"),
    "wrong credentials": ({"key": {**S3_KEY, "AWS_SECRET_ACCESS_KEY": "no"}}, errors.AccessDenied, "S3 answered 403"),
    "no such column": ({"BATCH_PASSTHROUGH": "idd"}, errors.InvalidInput, "passthrough 'idd'"),
    "another artifact": ({"MODEL_DIGEST": "sha256:" + "0" * 64}, errors.BatchError, "has digest"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_an_exit_code_and_nothing_written(s3, job, patients, tmp_path, case):
    settings, error, told = REFUSED[case]
    code, out, err = job(**{"BATCH_INPUT": patients, "BATCH_OUTPUT": "s3://predictions/refused", **settings}).ended()
    assert code == error.exit_code, err
    assert out == ""
    (line,) = err.strip().splitlines()
    assert line.startswith("slipway: ")
    assert told in line
    assert line.count("→") == 2, "value, rule, remedy"
    assert (tmp_path / "termination-log").read_text() == line + "\n", "Kubernetes shows it as the pod's reason"
    assert stored(s3, "refused") == {}


def test_a_wrong_setting_is_named(job):
    code, _, err = job(BATCH_INPUT="x", BATCH_OUTPUT="y", BATCH_QUARANTINE_SHARE="2").ended()
    assert code == 2
    assert err.startswith(f"slipway: {Env.BATCH_QUARANTINE_SHARE}: ")


def test_a_process_of_its_own_needs_no_server_and_writes_to_its_cache_alone(patients, bundle, gateway, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        **S3_KEY,
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        Env.MODEL_NAME: "breast-cancer",
        Env.MODEL_URI: str(bundle),
        Env.CACHE_DIR: str(tmp_path / "cache"),
        Env.S3_ENDPOINT_URL: gateway,
        Env.BATCH_INPUT: f"{patients}/part-0.parquet",
        Env.BATCH_OUTPUT: str(tmp_path / "out"),
    }
    done = subprocess.run(
        [sys.executable, "-m", BATCH_MODULE], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["made"] is True, "standard output is the summary and nothing else"
    assert list(home.iterdir()) == []
    kept = {path.name for path in (tmp_path / "cache" / "prefect").iterdir()}
    assert kept == {"storage"}, f"{kept}: results, and no database of a server's"


def test_a_ray_cluster_makes_the_very_bytes_that_one_process_makes(s3, patients, bundle, gateway):
    """A cluster of a head and two workers, each with the model."""
    # Sockets lie in the cache, and their paths may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="b-") as cache:
        for engine in ("local", "ray"):
            environment = {
                **S3_KEY,
                "PATH": os.environ["PATH"],
                Env.MODEL_NAME: "breast-cancer",
                Env.MODEL_URI: str(bundle),
                Env.MODEL_DIGEST: directory_digest(bundle),
                Env.CACHE_DIR: cache,
                Env.S3_ENDPOINT_URL: gateway,
                Env.BATCH_INPUT: patients,
                Env.BATCH_OUTPUT: f"s3://predictions/{engine}",
                Env.BATCH_PART_ROWS: str(PART_ROWS),
                Env.BATCH_TIMESTAMP: "2026-11-26T02:00:00Z",
                Env.BATCH_ENGINE: engine,
                Env.BATCH_WORKERS: "2",
            }
            done = subprocess.run(
                [sys.executable, "-m", BATCH_MODULE], env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        assert not (Path(cache) / "ray").exists(), "the cluster left something behind"
    assert contents(s3, "ray") == contents(s3, "local"), "results are identical, row for row"
