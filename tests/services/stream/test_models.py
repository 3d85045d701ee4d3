"""Which model answers a stream's messages: the one that its alias names, and beside it one that nobody hears."""

from __future__ import annotations

import functools
import itertools
import json
import signal
import threading

import httpx
import pytest
from mlflow import MlflowClient

from services.contract import Env, Metric, Route, directory_digest
from tests.services.scaling import feature_bundle
from tests.services.stream.conftest import artifact
from tools.registry import Registration, register_bundle

pytestmark = pytest.mark.slow

MODEL = "followed"


@pytest.fixture
def versions(mlflow_server, tmp_path):
    """Two registered versions by the factor that they multiply with."""
    found = {}
    for factor in (2, 3):
        made = feature_bundle(tmp_path / str(factor), factor)
        done = register_bundle(mlflow_server, Registration(name=MODEL, bundle=made, metrics={}, parameters={}))
        found[factor] = done.version
    return found


def test_an_alias_that_moves_changes_the_model_between_two_transactions(stream, mlflow_server, versions):
    registry = MlflowClient(mlflow_server)
    registry.set_registered_model_alias(MODEL, "live", versions[2])
    worker = stream.worker(
        {
            Env.MODEL_NAME: MODEL,
            Env.MODEL_URI: f"models:/{MODEL}@live",
            Env.MODEL_DIGEST: None,
            Env.MODEL_VERSION: None,
            Env.MLFLOW_TRACKING_URI: mlflow_server,
            Env.REFRESH_SECONDS: 3600,
        }
    ).ready()
    over, sent = threading.Event(), itertools.count()

    def keep_sending():
        while not over.wait(0.01):
            stream.send([(b"k%d" % number, b'{"a": %d, "b": 0}' % number) for number in itertools.islice(sent, 20)])

    sending = threading.Thread(target=keep_sending)
    sending.start()
    try:
        for wanted in (versions[3], versions[2]):
            registry.set_registered_model_alias(MODEL, "live", wanted)
            worker.signal(signal.SIGHUP)
            worker.until(functools.partial(swapped, worker, wanted), f"version {wanted} does not take over")
    finally:
        over.set()
        sending.join()
    count = next(sent)
    answers = [json.loads(message.value()) for message in stream.answers(count)]
    assert sorted(answer["input"]["a"] for answer in answers) == list(range(count)), "each once"
    factors = {version: factor for factor, version in versions.items()}
    assert all(answer["prediction"] == answer["input"]["a"] * factors[answer["model_version"]] for answer in answers)
    assert {answer["model_version"] for answer in answers} == set(versions.values())
    assert worker.stop() == 0


def swapped(worker, version):
    """The last that the worker said of a swap is this version."""
    lines = [json.loads(line) for line in worker.stdout.read_text().splitlines() if "model swapped" in line]
    return True if lines and lines[-1]["new"] == version else None


def test_a_shadow_sees_every_message_and_changes_no_answer(stream, tmp_path):
    beside = artifact(tmp_path / "tripling", 3)
    worker = stream.worker({Env.SHADOW_URI: beside, Env.SHADOW_DIGEST: directory_digest(beside)}).ready()
    stream.send([("k", b'{"x": %d}' % number) for number in range(10)])
    answers = [json.loads(message.value()) for message in stream.answers(10)]
    assert [answer["prediction"] for answer in answers] == [2 * number for number in range(10)]
    # Zero doubled is zero tripled.
    worker.until(lambda: compared(worker, "mismatch") == 9 or None, "the shadow does not see nine that differ")
    assert compared(worker, "match") == 1


def compared(worker, result):
    lines = httpx.get(worker.url + Route.METRICS).text.splitlines()
    wanted = f'result="{result}"'
    return sum(float(line.split()[-1]) for line in lines if line.startswith(Metric.SHADOW_ROWS) and wanted in line)


def test_a_shadow_that_cannot_be_loaded_stops_no_stream(stream, tmp_path):
    wrong = {Env.SHADOW_URI: artifact(tmp_path / "other", 3), Env.SHADOW_DIGEST: "sha256:" + "0" * 64}
    worker = stream.worker(wrong).ready()
    stream.send([b'{"x": 1}'])
    assert [json.loads(message.value())["prediction"] for message in stream.answers(1)] == [2.0]
    assert worker.said("the shadow is not loaded, the stream goes on without")
