"""A stream on the cluster: a worker scores messages of the platform's own broker."""

from __future__ import annotations

import base64
import json

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

MODEL = "breast-cancer-stream"
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
found, deadline = [], time.monotonic() + 120
while len(found) < len(asked["messages"]) and time.monotonic() < deadline:
    for message in consumer.consume(100, 1.0):
        if message.error() is None:
            found.append([message.topic(), message.value().decode()])
consumer.close()
print(json.dumps(found))
"""
"""Runs in the worker's pod, as the broker's admin: the only place that reaches the broker."""


@pytest.fixture(scope="module")
def streaming(site):
    """The site with a broker and a stream; as it was in the end."""
    original = site.stack_file.read_text()

    def add(config):
        config["slipway:platform"]["kafka"] = {"enabled": True, "volume": "1Gi"}
        config["slipway:topics"] = {
            "cards": {"partitions": 2},
            "card-scores": {"partitions": 2},
            "cards-dead": {"partitions": 1},
        }
        config["slipway:models"][MODEL] = {
            "kind": "stream",
            "model": "models:/breast-cancer/1",
            "input": "cards",
            "output": "card-scores",
            "deadLetter": "cards-dead",
        }

    try:
        site.edit(add)
        site.slipway("up")
        yield site
    finally:
        site.stack_file.write_text(original)
    site.pulumi("up", "--yes", "--skip-preview")
    site.pulumi("preview", "--expect-no-changes")


def test_messages_are_scored_as_the_service_scores_them(streaming):
    rows = streaming.artifact("1", "data/bundle/golden.json")["rows"][:20]
    found = asked(streaming, [*(json.dumps(row["features"]) for row in rows), "no json"])
    answers = [json.loads(value) for topic, value in found if topic == "card-scores"]
    assert [value for topic, value in found if topic == "cards-dead"] == ["no json"]
    expected = {json.dumps(row["features"], sort_keys=True): row["probability"] for row in rows}
    assert len(answers) == len(rows)
    for answer in answers:
        at = json.dumps(answer["input"], sort_keys=True)
        assert answer["probability"] == pytest.approx(expected[at], abs=1e-4)
        assert answer["model_version"] == "1"


def test_edits_preview_exactly_their_effect(streaming):
    kept = streaming.stack_file.read_text()
    streaming.edit(lambda config: config["slipway:topics"]["cards"].update(partitions=1))
    done = streaming.pulumi("preview", check=False)
    assert done.returncode != 0
    assert "slipway:topics.cards.partitions: 1 → 2 there are" in done.stdout + done.stderr
    streaming.stack_file.write_text(kept)
    streaming.edit(lambda config: config["slipway:models"][MODEL].update(batchRows=64))
    assert streaming.preview_steps() == {f"kubernetes:apps/v1:Deployment {MODEL}": "update"}
    streaming.stack_file.write_text(kept)


def asked(site, messages):
    secret = json.loads(site.kubectl("-n", "slipway-models", "get", "secret", "kafka-admin", "-o", "json"))
    properties = base64.b64decode(secret["data"]["client.properties"]).decode()
    brokers = "kafka.slipway-platform.svc.cluster.local:9092"
    said = json.dumps({"properties": properties, "brokers": brokers, "messages": messages})
    encoded = base64.b64encode(said.encode()).decode()
    command = ("-n", "slipway-models", "exec", f"deploy/{MODEL}", "--", "python", "-c", ASK, encoded)
    return json.loads(site.kubectl(*command))
