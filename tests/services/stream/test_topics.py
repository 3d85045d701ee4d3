"""The local platform's broker as it is configured, and the module that declares topics and rights."""

import json
import os
import subprocess
import sys

import pytest
from confluent_kafka.admin import AdminClient

from infra.platforms.local import kafka
from services.contract import TOPICS_MODULE, Env
from services.inference.adapters.telemetry.prediction_log import SinkError
from services.inference.adapters.telemetry.sinks import KafkaSink
from tests.services.stream.conftest import Cluster, Stream
from tools.kafka.broker import Broker

pytestmark = pytest.mark.slow

PASSWORDS = {kafka.ADMIN: "a" * 48, kafka.CLIENT: "b" * 48}
WEEK = {"retention.ms": "604800000"}


def properties():
    """The platform's own, on this machine's ports and folders."""
    text = kafka.server_properties(PASSWORDS, "127.0.0.1:{port}").replace(
        f"CLIENTS://:{kafka.PORT}", "CLIENTS://127.0.0.1:{port}"
    )
    text = text.replace(f"127.0.0.1:{kafka.CONTROLLER_PORT}", "127.0.0.1:{controller}")
    text = text.replace(f"127.0.0.1:{kafka.INTERNAL_PORT}", "127.0.0.1:{internal}")
    found = dict(line.split("=", 1) for line in text.splitlines())
    del found["log.dirs"]
    return found


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("secured"), properties()) as broker:
        yield broker


def client(broker, user):
    found = dict(line.split("=", 1) for line in kafka.client_properties(user, PASSWORDS[user]).splitlines())
    return {**found, "bootstrap.servers": broker.bootstrap}


class Secured(Cluster):
    """The admin's clients."""

    def __init__(self, broker):
        super().__init__(broker)
        self.client = client(broker, kafka.ADMIN)
        self.admin = AdminClient(self.client)


def declare(broker, directory, topics, streams=None, logs=()):
    listed = {"user": kafka.CLIENT, "topics": topics, "streams": streams or {}, "logs": list(logs)}
    (directory / "topics.json").write_text(json.dumps(listed))
    (directory / "admin").write_text(kafka.client_properties(kafka.ADMIN, PASSWORDS[kafka.ADMIN]))
    command = [sys.executable, "-m", TOPICS_MODULE, broker.bootstrap, str(directory / "topics.json")]
    environment = {**os.environ, Env.KAFKA_PROPERTIES: str(directory / "admin")}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)


def topic(partitions, **config):
    return {"partitions": partitions, "replication": 1, "config": {**WEEK, **config}}


def test_topics_are_made_grown_and_set_and_a_second_run_changes_nothing(secured, tmp_path):
    wanted = {"grown": topic(2), "set": topic(1, **{"max.message.bytes": "2000000"})}
    for _ in range(2):
        done = declare(secured, tmp_path, wanted)
        assert done.returncode == 0, done.stderr
    wanted["grown"] = topic(4)
    assert declare(secured, tmp_path, wanted).returncode == 0
    topics = AdminClient(client(secured, kafka.ADMIN)).list_topics(timeout=10).topics
    assert (len(topics["grown"].partitions), len(topics["set"].partitions)) == (4, 1)


def test_fewer_partitions_end_the_job_with_a_reason(secured, tmp_path):
    assert declare(secured, tmp_path, {"shrunk": topic(3)}).returncode == 0
    done = declare(secured, tmp_path, {"shrunk": topic(2)})
    assert done.returncode == 1
    assert "topic shrunk: 3 partitions → Kafka takes none away → set partitions to 3" in done.stderr


def test_a_stream_has_the_rights_that_it_needs_and_no_others(secured, tmp_path, model, start_worker):
    cluster = Secured(secured)
    names = ["rights-in", "rights-out", "rights-dead"]
    wanted = {name: topic(2) for name in [*names, "secret"]}
    streams = {"rights": {"read": names[0], "write": names[1:], "group": "rights"}}
    assert declare(secured, tmp_path, wanted, streams).returncode == 0
    stream = Stream(cluster, model, start_worker, names)
    login = dict(
        line.split("=", 1) for line in kafka.client_properties(kafka.CLIENT, PASSWORDS[kafka.CLIENT]).splitlines()
    )
    worker = stream.worker({"properties": login}).ready()
    stream.send([("k", b'{"x": 1}'), ("k", b"no json")])
    assert len(stream.answers(1)) == len(stream.dead_letters(1)) == 1
    assert worker.stop() == 0
    stranger = stream.worker({"properties": login, Env.STREAM_INPUT: "secret"})
    assert stranger.wait() == 1
    assert "topic 'secret': not there for this user" in stranger.termination_log.read_text()


def test_a_log_is_written_to_its_topic_and_to_no_other(secured, tmp_path):
    wanted = {"lines": topic(1), "not-for-lines": topic(1)}
    assert declare(secured, tmp_path, wanted, logs=["lines"]).returncode == 0
    login = {**client(secured, kafka.CLIENT), "message.timeout.ms": "5000"}
    allowed, refused = (KafkaSink(login, name) for name in wanted)
    allowed.write("id", b"{}")
    assert allowed.close() == 1
    for _ in ("told by the broker", "known from then on"):
        with pytest.raises(SinkError, match=r"TOPIC_AUTHORIZATION_FAILED|Unknown topic"):
            refused.write("id", b"{}") or refused.close()


def test_a_wrong_password_ends_the_worker_with_a_reason(secured, stream):
    wrong = {**client(secured, kafka.CLIENT), "sasl.password": "x"}
    del wrong["bootstrap.servers"]
    worker = stream.worker({"properties": wrong, Env.STREAM_BROKERS: secured.bootstrap})
    assert worker.wait() == 1
    assert "correct the user, its password and the mechanism" in worker.termination_log.read_text()
