"""A real broker, workers as processes of their own, and a model that does what its messages say."""

import itertools
import json
import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from services.contract import Env, directory_digest
from tests.processes import Process
from tools.chaos.world import CONFIG
from tools.kafka.broker import Broker

READ_SECONDS = 60

CODE = """
import time

FACTOR = 2

class Model:
    def load(self, directory):
        pass

    def predict(self, inputs, parameters):
        x = inputs["x"]
        if (x == 13).any():
            raise RuntimeError("thirteen is unlucky")
        slow = x[x >= 1000]
        if len(slow):
            time.sleep(len(slow) * 0.05)
        return {"prediction": x * FACTOR}
"""
"""Doubles; raises at 13; from 1000 on takes 50 ms for each row."""


def artifact(directory, factor=2):
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(CONFIG)
    (directory / "model.py").write_text(CODE.replace("FACTOR = 2", f"FACTOR = {factor}"))
    return directory


class Cluster:
    """Clients of the broker, and topics of each test's own."""

    _numbers = itertools.count()

    def __init__(self, broker):
        self.broker = broker
        self.bootstrap = broker.bootstrap
        self.client = {"bootstrap.servers": broker.bootstrap}
        self.admin = AdminClient(self.client)

    def create(self, name, partitions=4, **config):
        topic = NewTopic(name, partitions, 1, config=config)
        for future in self.admin.create_topics([topic]).values():
            future.result()
        consumer = Consumer({**self.client, "group.id": "reader"})
        try:
            for partition in range(partitions):
                self._end(consumer, name, partition)
        finally:
            consumer.close()
        return name

    def names(self):
        return [f"t{next(self._numbers)}-{part}" for part in ("in", "out", "dead")]

    def send(self, topic, messages):
        """Each is a value, or (key, value), or (key, value, headers)."""
        failures = []
        producer = Producer({**self.client, "linger.ms": 5, "partitioner": "murmur2_random"})
        for message in messages:
            key, value, headers = (*message, None)[:3] if isinstance(message, tuple) else (None, message, None)
            producer.produce(topic, value, key, headers=headers, on_delivery=lambda e, m: e and failures.append(e))
            producer.poll(0)
        assert producer.flush(30) == 0, "the broker takes the test's messages"
        assert not failures, failures[0]

    def read(self, topic, count=None, seconds=READ_SECONDS):
        """Committed messages of a topic: so many, or all that are there now."""
        consumer = Consumer(
            {**self.client, "group.id": "reader", "isolation.level": "read_committed", "enable.auto.commit": False}
        )
        try:
            partitions = consumer.list_topics(topic, 10).topics[topic].partitions
            consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
            left = {p for p in partitions if self._end(consumer, topic, p) > 0}
            found = []
            deadline = time.monotonic() + seconds
            while (len(found) < count) if count is not None else left:
                for message in consumer.consume(1000, 0.1):
                    assert message.error() is None, message.error()
                    found.append(message)
                if count is None:
                    # A position beyond the last message: markers of transactions have offsets too.
                    for place in consumer.position([TopicPartition(topic, p) for p in left]):
                        if place.offset >= self._end(consumer, topic, place.partition):
                            left.discard(place.partition)
                assert time.monotonic() < deadline, f"{len(found)} of {count} messages in {topic}"
            return found
        finally:
            consumer.close()

    def _end(self, consumer, topic, partition):
        """Offset after the last message; a topic or broker that is new has no leader for a moment."""
        deadline = time.monotonic() + READ_SECONDS
        while True:
            try:
                return consumer.get_watermark_offsets(TopicPartition(topic, partition), 10, cached=False)[1]
            except KafkaException:
                if time.monotonic() > deadline:
                    raise

    def lag(self, group, topic):
        consumer = Consumer({**self.client, "group.id": group, "isolation.level": "read_committed"})
        try:
            partitions = [TopicPartition(topic, p) for p in consumer.list_topics(topic, 10).topics[topic].partitions]
            done = {place.partition: max(0, place.offset) for place in consumer.committed(partitions, 10)}
            return sum(self._end(consumer, topic, p.partition) - done[p.partition] for p in partitions)
        finally:
            consumer.close()


class Worker(Process):
    """`python -m services.inference.stream`."""

    def __init__(self, directory, settings):
        directory.mkdir(parents=True, exist_ok=True)
        self.termination_log = directory / "termination-log"
        self.termination_log.touch()
        properties = directory / "client.properties"
        lines = {"session.timeout.ms": 3000, **settings.pop("properties", {})}
        properties.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        defaults = {
            Env.MODEL_NAME: "double",
            Env.RELEASE: "v1",
            Env.CACHE_DIR: directory / "cache",
            Env.HTTP_HOST: "127.0.0.1",
            Env.HTTP_PORT: 0,
            Env.TERMINATION_LOG: self.termination_log,
            Env.KAFKA_PROPERTIES: properties,
            Env.STREAM_WORKER: "w0",
        }
        chosen = {str(key): str(value) for key, value in {**defaults, **settings}.items() if value is not None}
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd()), **chosen}
        super().__init__([sys.executable, "-m", "services.inference.stream"], directory, environment)

    def said(self, event):
        for line in self.stdout.read_text().splitlines():
            if line.startswith("{") and (found := json.loads(line))["event"] == event:
                return found
        return None

    def ready(self):
        self.until(lambda: self.said("partitions assigned"), "the worker does not join its group")
        return self

    @property
    def url(self):
        return f"http://127.0.0.1:{self.until(lambda: self.said('listening'), 'it does not listen')['port']}"

    def kill(self):
        self.signal(signal.SIGKILL)
        self.wait()


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="session")
def cluster(broker):
    return Cluster(broker)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return artifact(tmp_path_factory.mktemp("model") / "double")


class Stream:
    """Three topics, and workers between them."""

    def __init__(self, cluster, model, start, names):
        self.cluster, self._model, self._start = cluster, model, start
        self.input, self.output, self.dead = names
        self.group = self.input.removesuffix("-in")

    def worker(self, settings=None):
        chosen = {
            Env.MODEL_URI: str(self._model),
            Env.MODEL_DIGEST: directory_digest(self._model),
            Env.MODEL_VERSION: "7",
            Env.STREAM_BROKERS: self.cluster.bootstrap,
            Env.STREAM_INPUT: self.input,
            Env.STREAM_OUTPUT: self.output,
            Env.STREAM_DEAD_LETTER: self.dead,
            Env.STREAM_GROUP: self.group,
        }
        return self._start({**chosen, **(settings or {})})

    def send(self, messages):
        self.cluster.send(self.input, messages)

    def answers(self, count=None):
        return self.cluster.read(self.output, count)

    def dead_letters(self, count=None):
        return self.cluster.read(self.dead, count)


@pytest.fixture
def start_worker(tmp_path_factory):
    with ExitStack() as running:

        def start(settings):
            worker = Worker(tmp_path_factory.mktemp("worker"), settings)
            running.callback(worker.stop)
            return worker

        yield start


@pytest.fixture
def stream(cluster, model, start_worker):
    names = cluster.names()
    for name in names:
        cluster.create(name)
    return Stream(cluster, model, start_worker, names)
