"""What chaos is done to: a broker, a stream's topics, and a crew of workers that are started again when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from services.contract import Env, directory_digest
from tools import paths
from tools.steps import StepError

if TYPE_CHECKING:
    from pathlib import Path

    from tools.kafka.broker import Broker

INPUT, OUTPUT, DEAD_LETTER, GROUP = "chaos-in", "chaos-out", "chaos-dead", "chaos"
PARTITIONS = 8
KEYS = 500
POISON_EVERY = 997
"""One message in so many is no number: it has to become a dead letter, once."""

CONFIG = """
format: slipway-python/1
model: model.py:Model
inputs: [{name: x, datatype: FP64, shape: [-1]}]
outputs: [{name: prediction, datatype: FP64, shape: [-1]}]
"""
"""Of a model of a number, which gives one."""

CODE = """
class Model:
    def load(self, directory):
        pass

    def predict(self, inputs, parameters):
        return {"prediction": inputs["x"] * 2}
"""
"""Its answers can be checked; what it costs does not matter here."""

CLIENT = {
    # A dead worker is missed after two seconds, and its transaction given up after eight: as in production, in a hurry.
    "session.timeout.ms": 2000,
    "heartbeat.interval.ms": 300,
    "max.poll.interval.ms": 30_000,
    "transaction.timeout.ms": 8000,
    "reconnect.backoff.max.ms": 500,
}
SETTLE_SECONDS = 180
"""For the last messages to be answered after the last blow."""


def key_of(number: int) -> bytes:
    """Message `number` is one of its key's, in the order of the numbers."""
    return b"k%d" % (number % KEYS)


def value_of(number: int) -> bytes:
    """What it says; some say something that no model takes."""
    return (
        b'{"x": "poison", "n": %d}' % number if number % POISON_EVERY == 0 else b'{"x": %d, "n": %d}' % (number, number)
    )


class Crew:
    """Workers by name: a name is a place that is filled again, as a pod's container is."""

    def __init__(self, broker: Broker, directory: Path, commit_ms: int) -> None:
        self._directory = directory
        artifact = directory / "model"
        artifact.mkdir(parents=True)
        (artifact / "config.yaml").write_text(CONFIG)
        (artifact / "model.py").write_text(CODE)
        properties = directory / "client.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in CLIENT.items()))
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(paths.PROJECT),
            Env.MODEL_NAME: "double",
            Env.MODEL_URI: str(artifact),
            Env.MODEL_DIGEST: directory_digest(artifact),
            Env.HTTP_HOST: "127.0.0.1",
            Env.HTTP_PORT: "0",
            Env.KAFKA_PROPERTIES: str(properties),
            Env.STREAM_BROKERS: broker.bootstrap,
            Env.STREAM_INPUT: INPUT,
            Env.STREAM_OUTPUT: OUTPUT,
            Env.STREAM_DEAD_LETTER: DEAD_LETTER,
            Env.STREAM_GROUP: GROUP,
            Env.STREAM_COMMIT_MS: str(commit_ms),
            Env.CACHE_DIR: str(directory / "cache"),
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.restarts = 0
        """Of workers that ended by themselves: told that they were replaced, or by a broker that was gone."""

    def start(self, name: str) -> None:
        """Fill a place."""
        environment = {str(key): value for key, value in {**self._environment, Env.STREAM_WORKER: name}.items()}
        command = [sys.executable, "-m", "services.inference.stream"]
        with (self._directory / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to whoever has the place."""
        self.running[name].send_signal(number)

    def end(self, name: str, number: signal.Signals) -> None:
        """Empty a place."""
        child = self.running.pop(name)
        child.send_signal(number)
        child.wait()

    def mend(self) -> None:
        """Fill the places of those that ended by themselves."""
        for name, child in list(self.running.items()):
            if child.poll() is not None:
                self.restarts += 1
                self.start(name)

    def stop(self) -> None:
        """Drain all; whoever does not is killed."""
        for child in self.running.values():
            child.send_signal(signal.SIGCONT)
            child.terminate()
        for child in self.running.values():
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.running.clear()


class Feed(threading.Thread):
    """Sends the messages at an even pace, each once: the producer is idempotent and outlives its broker."""

    def __init__(self, broker: Broker, messages: int, seconds: float) -> None:
        super().__init__(name="feed", daemon=True)
        self._messages, self._seconds = messages, seconds
        self._failures: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": broker.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 20,
                "compression.type": "lz4",
                "partitioner": "murmur2_random",
                "message.timeout.ms": 600_000,
                "delivery.report.only.error": True,
                "metadata.recovery.strategy": "none",
                "reconnect.backoff.max.ms": 500,
                "on_delivery": lambda error, _: self._failures.append(str(error)),
            }
        )
        self.done = False

    def run(self) -> None:
        """Send them all."""
        started = time.monotonic()
        for number in range(self._messages):
            if number % 100 == 0:
                ahead = started + self._seconds * number / self._messages - time.monotonic()
                self._producer.poll(max(0.0, ahead))
            while True:
                try:
                    self._producer.produce(INPUT, value_of(number), key_of(number))
                    break
                except BufferError:
                    self._producer.poll(0.1)
        self._producer.flush()
        self.done = True

    def check(self) -> None:
        """Raise where a message did not reach the broker: then nothing can be said of the workers."""
        if self._failures:
            raise StepError(f"the feed lost a message ({self._failures[0]}) → nothing can be judged → run it again")


def create_topics(broker: Broker) -> None:
    """The stream's topics."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    topics = [NewTopic(name, PARTITIONS, 1) for name in (INPUT, OUTPUT, DEAD_LETTER)]
    for future in admin.create_topics(topics).values():
        future.result()


def settled(broker: Broker) -> bool:
    """Whether every message has been answered; False also while the broker does not say."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": GROUP, "isolation.level": "read_committed"})
    try:
        places = [TopicPartition(INPUT, partition) for partition in range(PARTITIONS)]
        return all(
            place.offset >= consumer.get_watermark_offsets(place, 5, cached=False)[1]
            for place in consumer.committed(places, 5)
        )
    except KafkaException:
        return False
    finally:
        consumer.close()


@dataclass
class Tally:
    """What readers of committed messages see."""

    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    dead_letters: int = 0
    wrong: int = 0
    """Answers that are not the model's, and messages in the topic where they do not belong."""


def tally(broker: Broker, messages: int) -> Tally:
    """Read both topics to their ends and count."""
    import orjson  # noqa: PLC0415  # the service's own dependency

    found = Tally()
    seen = bytearray(messages)
    last: dict[bytes, int] = {}
    for value, key in read_committed(broker, OUTPUT):
        answer = orjson.loads(value)
        number = answer["input"]["n"]
        seen[number] = min(seen[number] + 1, 255)
        found.wrong += answer["prediction"] != 2 * number or number % POISON_EVERY == 0
        found.out_of_order += number <= last.get(key, -1)
        last[key] = number
    for value, _ in read_committed(broker, DEAD_LETTER):
        number = orjson.loads(value)["n"]
        seen[number] = min(seen[number] + 1, 255)
        found.wrong += number % POISON_EVERY != 0
        found.dead_letters += 1
    found.lost = seen.count(0)
    found.duplicated = sum(count - 1 for count in seen if count > 1)
    return found


def read_committed(broker: Broker, topic: str) -> list[tuple[bytes, bytes]]:
    """Values and keys, each partition's in order."""
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": "judge", "isolation.level": "read_committed"}
    )
    found: list[tuple[bytes, bytes]] = []
    try:
        ends = {
            partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), 10, cached=False)[1]
            for partition in range(PARTITIONS)
        }
        consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
        left = {partition for partition, end in ends.items() if end > 0}
        deadline = time.monotonic() + SETTLE_SECONDS
        while left:
            for message in consumer.consume(10_000, 0.2):
                value, key = message.value(), message.key()
                if message.error() is None and value is not None and key is not None:
                    found.append((bytes(value), bytes(key)))
            positions = consumer.position([TopicPartition(topic, partition) for partition in left])
            left -= {place.partition for place in positions if place.offset >= ends[place.partition]}
            if time.monotonic() > deadline:
                raise StepError(
                    f"{topic}: partitions {sorted(left)} cannot be read to their ends → a transaction hangs"
                )
    finally:
        consumer.close()
    return found
