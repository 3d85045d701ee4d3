"""`python -m bench.streaming`: our stream worker beside its peers, on one broker of this machine, in one run.

1. a broker starts and a topic is filled; every stream gets an output topic and a consumer group of its own
2. streams run one at a time, each from the topic's beginning until every message is answered, in several rounds
3. the rate is that of the broker's own clock: messages after the first tenth, over the time between that and the last
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import yaml
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from bench import environments
from bench.processes import BenchError, Process, adopt_orphans, on_cores
from bench.record import commit_of, machine
from bench.streams import scoring
from services.contract import STREAM_MODULE, Env, directory_digest
from tools.kafka.broker import Broker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RESULTS = environments.HERE / "results" / "streaming.json"
INPUT, PARTITIONS, KEYS = "bench-in", 4, 1000
PATIENCE_SECONDS = 240
SHARE_LEFT_OUT = 0.1
"""Of the messages, the first: a start is not a rate."""

OURS_EXACT, OURS_LEAST, FLOOR, TEXTBOOK = "slipway exactly-once", "slipway at-least-once", "floor", "kafka-python loop"
QUIX_EXACT, QUIX_LEAST, FAST = "quixstreams exactly-once", "quixstreams at-least-once", "faststream at-least-once"


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One stream."""

    environment: str
    """Of the peer; the project's own where empty."""
    module: str
    guarantee: str
    share: float = 1.0
    """Of the messages: a slow one needs no minutes to show its rate."""


CONTESTANTS: Mapping[str, Contestant] = {
    OURS_EXACT: Contestant(environment="", module=STREAM_MODULE, guarantee="exactly-once"),
    OURS_LEAST: Contestant(environment="", module=STREAM_MODULE, guarantee="at-least-once"),
    FLOOR: Contestant(environment="", module="bench.streams.floor", guarantee="none"),
    TEXTBOOK: Contestant(environment="textbook", module="bench.streams.textbook.stream", guarantee="none", share=0.2),
    QUIX_EXACT: Contestant(
        environment="quixstreams", module="bench.streams.quixstreams.stream", guarantee="exactly-once", share=0.2
    ),
    QUIX_LEAST: Contestant(
        environment="quixstreams", module="bench.streams.quixstreams.stream", guarantee="at-least-once", share=0.2
    ),
    FAST: Contestant(
        environment="faststream", module="bench.streams.faststream.stream", guarantee="at-least-once", share=0.2
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the result is its exit code, 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.streaming", description=__doc__)
    parser.add_argument("--messages", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help=f"of: {', '.join(CONTESTANTS)}")
    asked = parser.parse_args(arguments)
    names = [name for name in CONTESTANTS if not asked.only or name in asked.only.split(",")]
    adopt_orphans()
    try:
        for name in names:
            if environment := CONTESTANTS[name].environment:
                environments.ensure(environment)
        rates = measure(names, asked.messages, asked.rounds)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    found = summary(rates, asked.messages)
    print(page(found))
    if not asked.only:
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
        RESULTS.with_suffix(".md").write_text(page(found))
    return 0 if all(goal["met"] for goal in found["goals"]) else 1


def measure(names: Sequence[str], messages: int, rounds: int) -> dict[str, list[float]]:
    """Messages a second by contestant, one for each round."""
    rates: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as scratch:
        directory = Path(scratch)
        with Broker(directory / "broker", {"log.message.timestamp.type": "LogAppendTime"}) as broker:
            for thread in Path(f"/proc/{broker.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), _halves()[0])
            _create(broker, INPUT)
            _fill(broker, messages)
            for number in range(rounds):
                for name in names:
                    rate = _run(broker, CONTESTANTS[name], messages, directory / f"{number}-{name.replace(' ', '-')}")
                    rates[name].append(rate)
                    print(f"round {number + 1}, {name}: {rate:,.0f} messages/s", flush=True)
    return rates


def _halves() -> tuple[set[int], set[int]]:
    """Cores of the broker and of the streams."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:  # noqa: PLR2004
        raise BenchError("one core → broker and stream need one each → use a larger machine")
    return set(cores[: len(cores) // 2]), set(cores[len(cores) // 2 :])


def _create(broker: Broker, *names: str) -> None:
    topics = [NewTopic(name, PARTITIONS, 1) for name in names]
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for future in admin.create_topics(topics).values():
        future.result()


def _fill(broker: Broker, messages: int) -> None:
    draw = random.Random(0)  # noqa: S311  # nothing secret
    values = [orjson.dumps({name: round(draw.gauss(0, 1), 4) for name in scoring.FEATURES}) for _ in range(1000)]
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 20})
    for number in range(messages):
        while True:
            try:
                producer.produce(INPUT, values[number % len(values)], b"k%d" % (number % KEYS))
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(60):
        raise BenchError("the broker does not take the messages → see its log → run it again")


def _run(broker: Broker, contestant: Contestant, messages: int, directory: Path) -> float:
    output = f"{directory.name}-out"
    dead = f"{directory.name}-dead"
    _create(broker, output, dead)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(environments.ROOT),
        "HOME": str(directory),
        "BENCH_BROKERS": broker.bootstrap,
        "BENCH_INPUT": INPUT,
        "BENCH_OUTPUT": output,
        "BENCH_GROUP": directory.name,
        "BENCH_GUARANTEE": contestant.guarantee,
        **(_ours(directory, broker, output, dead, contestant) if contestant.module == STREAM_MODULE else {}),
    }
    python = str(environments.python_of(contestant.environment))
    cores = ",".join(map(str, sorted(_halves()[1])))
    wanted = int(messages * contestant.share)
    with Process(on_cores(cores, [python, "-m", contestant.module]), directory, environment) as running:
        consumer = Consumer(
            {"bootstrap.servers": broker.bootstrap, "group.id": "bench", "isolation.level": "read_committed"}
        )
        try:
            _wait(consumer, output, wanted, running)
            return _rate(consumer, output, wanted)
        finally:
            consumer.close()


def _ours(directory: Path, broker: Broker, output: str, dead: str, contestant: Contestant) -> dict[str, str]:
    artifact = scripted(directory / "artifact")
    settings = {
        Env.MODEL_NAME: "bench",
        Env.MODEL_URI: str(artifact),
        Env.MODEL_DIGEST: directory_digest(artifact),
        Env.MODEL_VERSION: scoring.VERSION,
        Env.CACHE_DIR: str(directory / "cache"),
        Env.HTTP_HOST: "127.0.0.1",
        Env.HTTP_PORT: "0",
        Env.STREAM_BROKERS: broker.bootstrap,
        Env.STREAM_INPUT: INPUT,
        Env.STREAM_OUTPUT: output,
        Env.STREAM_DEAD_LETTER: dead,
        Env.STREAM_GROUP: directory.name,
        Env.STREAM_GUARANTEE: contestant.guarantee,
    }
    return {str(key): value for key, value in settings.items()}


def scripted(directory: Path) -> Path:
    """The same model as our service takes it: TorchScript that gives the sum, and its config."""
    import torch  # noqa: PLC0415  # seconds of import

    class Sum(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.nn.Parameter(torch.tensor(scoring.WEIGHTS, dtype=torch.float32))

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows @ self.weights

    directory.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*deprecated", category=FutureWarning)
        torch.jit.script(Sum().eval()).save(str(directory / "model.pt"))  # type: ignore[no-untyped-call]
    described = {
        "format": "slipway-bundle/1",
        "name": "bench",
        "required_features": list(scoring.FEATURES),
        "task": "binary_classification",
        "outputs": "logits",
        "threshold": 0.5,
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(described))
    (directory / "input_example.json").write_text(json.dumps([dict.fromkeys(scoring.FEATURES, 0.5)]))
    return directory


def _wait(consumer: Consumer, topic: str, wanted: int, running: Process) -> None:
    """Until the topic has as many offsets; markers of transactions have some too, so it may be a little early."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _offsets(consumer, topic) < wanted:
        if time.monotonic() > deadline or not running.alive():
            told = f"{_offsets(consumer, topic)} of {wanted} messages → it answers all → see its log:"
            raise BenchError(f"{topic}: {told}\n{running.tail()}")
        time.sleep(0.2)


def _offsets(consumer: Consumer, topic: str) -> int:
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    try:
        return sum(consumer.get_watermark_offsets(place, 10, cached=False)[1] for place in places)
    except KafkaException:  # a topic that is new has no leader for a moment
        return 0


def _rate(consumer: Consumer, topic: str, wanted: int) -> float:
    """Messages a second by the broker's clock, of the first `wanted` that were written."""
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    moments: list[int] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(moments) < wanted * 0.98 and time.monotonic() < deadline:
        moments.extend(message.timestamp()[1] for message in consumer.consume(10_000, 0.5) if message.error() is None)
    moments.sort()
    first = int(len(moments) * SHARE_LEFT_OUT)
    return (len(moments) - first) / ((moments[-1] - moments[first]) / 1e3)


def summary(rates: Mapping[str, Sequence[float]], messages: int) -> dict[str, Any]:
    """Medians, and what they say of the goals."""
    medians = {name: statistics.median(found) for name, found in rates.items()}
    goals = []

    def goal(words: str, ours: str, other: str, least: float) -> None:
        if ours in medians and other in medians:
            ratio = medians[ours] / medians[other]
            goals.append({"goal": words, "ratio": round(ratio, 3), "least": least, "met": ratio >= least})

    goal("exactly-once ≥ 5 × the textbook loop", OURS_EXACT, TEXTBOOK, 5)
    goal("exactly-once ≥ 1.5 × quixstreams exactly-once", OURS_EXACT, QUIX_EXACT, 1.5)
    goal("at-least-once ≥ 1.5 × quixstreams at-least-once", OURS_LEAST, QUIX_LEAST, 1.5)
    goal("at-least-once ≥ 1.5 × faststream at-least-once", OURS_LEAST, FAST, 1.5)
    goal("exactly-once ≥ 90 % of at-least-once, commits every 100 ms", OURS_EXACT, OURS_LEAST, 0.9)
    goal("exactly-once ≥ 70 % of the floor", OURS_EXACT, FLOOR, 0.7)
    return {
        "command": "python -m bench.streaming",
        "commit": commit_of(None),
        "machine": machine(),
        "messages": messages,
        "rates": {name: [round(rate) for rate in found] for name, found in rates.items()},
        "medians": {name: round(rate) for name, rate in medians.items()},
        "goals": goals,
    }


def page(found: Mapping[str, Any]) -> str:
    """The summary as Markdown."""
    rates = "\n".join(
        f"| {name} | {rate:,} | {', '.join(f'{each:,}' for each in found['rates'][name])} |"
        for name, rate in found["medians"].items()
    )
    goals = "\n".join(
        f"| {each['goal']} | {each['ratio']:.2f} | {'met' if each['met'] else '**missed**'} |"
        for each in found["goals"]
    )
    return f"""# Streams

`{found["command"]}`: one worker on one core, the broker on another, {found["messages"]:,} JSON messages of thirty
features; the same small model behind each, by hand where a peer has no models. Messages a second by the broker's clock.

| stream | median | rounds |
|---|---|---|
{rates}

| goal | ratio | |
|---|---|---|
{goals}
"""


if __name__ == "__main__":
    sys.exit(main())
