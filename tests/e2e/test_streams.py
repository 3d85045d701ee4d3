"""A stream on the cluster: workers come with the messages of the platform's own broker, score them, and go."""

from __future__ import annotations

import base64
import contextlib
import json
import time

import pytest

from infra import names
from tests.e2e.callers import until
from tests.e2e.everything import STREAM_MODEL

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(3600)]

ASK = """
import base64, json, sys, time
from confluent_kafka import Consumer, Producer
asked = json.loads(base64.b64decode(sys.argv[1]))
client = dict(line.split("=", 1) for line in asked["properties"].splitlines())
client["bootstrap.servers"] = asked["brokers"]
producer = Producer(client)
for number, value in enumerate(asked["messages"]):
    producer.produce("cards", value.encode(), b"k%d" % number)
assert producer.flush(60) == 0
reader = {"group.id": "e2e", "isolation.level": "read_committed", "auto.offset.reset": "earliest"}
consumer = Consumer({**client, **reader})
consumer.subscribe(["card-scores", "cards-dead"])
found, deadline = [], time.monotonic() + 200
while len(found) < len(asked["messages"]) and time.monotonic() < deadline:
    for message in consumer.consume(100, 1.0):
        if message.error() is None:
            found.append([message.topic(), message.value().decode()])
consumer.close()
print(json.dumps(found))
"""
"""Runs in a pod beside the workers, as the broker's admin: no other place reaches the broker."""


def test_messages_bring_workers_that_score_them_as_the_service_does_and_go_when_all_is_answered(everything, golden):
    assert workers(everything) == 0, "nobody waits for messages that nobody sends"
    rows = [row for row in golden if row["features"]][:30]
    started = time.monotonic()
    messages = [*(json.dumps(row["features"]) for row in rows), "no json"]
    with asked(everything, messages) as answered:
        until(lambda: workers(everything) == 2, seconds=180)
        everything.figure("a stream without workers: from the messages to the second", time.monotonic() - started, "s")
        found = answered()
    everything.figure(
        f"{len(messages)} messages to slow workers that are not there yet", time.monotonic() - started, "s"
    )
    answers = [json.loads(value) for topic, value in found if topic == "card-scores"]
    assert [value for topic, value in found if topic == "cards-dead"] == ["no json"]
    expected = {json.dumps(row["features"], sort_keys=True): row["probability"] for row in rows}
    assert len(answers) == len(rows)
    for answer in answers:
        at = json.dumps(answer["input"], sort_keys=True)
        assert answer["probability"] == pytest.approx(expected[at], abs=1e-4)
    started = time.monotonic()
    until(lambda: workers(everything) == 0, seconds=180)
    everything.figure("a stream that is answered: until its last worker goes", time.monotonic() - started, "s")
    everything.pulumi("preview", "--expect-no-changes")


def test_edits_preview_exactly_their_effect(everything):
    kept = everything.stack_file.read_text()
    everything.edit(shrink)
    done = everything.pulumi("preview", check=False)
    assert done.returncode != 0
    assert "slipway:topics.cards.partitions: 1 → 2 there are" in done.stdout + done.stderr
    everything.stack_file.write_text(kept)
    everything.edit(lambda config: config["slipway:models"][STREAM_MODEL].update(batchRows=64))
    assert everything.preview_steps() == {f"kubernetes:apps/v1:Deployment {STREAM_MODEL}": "update"}
    everything.stack_file.write_text(kept)


def shrink(config):
    """Fewer partitions, and no more workers than those could have."""
    config["slipway:topics"]["cards"]["partitions"] = 1
    config["slipway:models"][STREAM_MODEL]["scaling"] = {"min": 1}


def workers(site):
    """Workers that are ready."""
    found = site.kubectl("get", "deployment", "-n", names.MODELS_NAMESPACE, STREAM_MODEL, "-o", "json")
    return json.loads(found)["status"].get("readyReplicas", 0)


@contextlib.contextmanager
def asked(site, messages):
    """Sends messages from a pod made as the workers are; gives what reads answers and dead letters, all of them."""
    place = ("-n", names.MODELS_NAMESPACE)
    secret = json.loads(site.kubectl(*place, "get", "secret", "kafka-admin", "-o", "json"))
    said = {
        "properties": base64.b64decode(secret["data"]["client.properties"]).decode(),
        "brokers": "kafka.slipway-platform.svc.cluster.local:9092",
        "messages": messages,
    }
    encoded = base64.b64encode(json.dumps(said).encode()).decode()
    worker = json.loads(site.kubectl(*place, "get", "deployment", STREAM_MODEL, "-o", "json"))["spec"]["template"]
    [container] = worker["spec"]["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        del container[probe]
    labels = {name: value for name, value in worker["metadata"]["labels"].items() if "kafka" in name}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "asker", "labels": labels},
        "spec": {
            **worker["spec"],
            "restartPolicy": "Never",
            "containers": [{**container, "command": ["python", "-c", ASK, encoded]}],
        },
    }
    site.kubectl(*place, "create", "-f", "-", stdin=json.dumps(pod))

    def answered():
        wait = ["wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=240s", "pod/asker"]
        site.kubectl(*place, *wait, timeout=260)
        return json.loads(site.kubectl(*place, "logs", "asker").splitlines()[-1])

    try:
        yield answered
    finally:
        site.kubectl(*place, "delete", "pod", "asker", "--wait=true")
