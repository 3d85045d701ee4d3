"""The telemetry contract of streams: what alerts and their dashboard ask for is what a worker tells."""

from __future__ import annotations

import json

import pytest

from infra.telemetry import alerts, dashboards, queries
from services.contract import Env, Metric
from tests.services.prometheus import Prometheus, panels, target

pytestmark = pytest.mark.slow

MODEL = "double"


@pytest.fixture
def asked(stream, tmp_path):
    """A Prometheus that has seen a worker answer and refuse."""
    worker = stream.worker({Env.RELEASE: "stream"}).ready()
    targets = {queries.MODELS_JOB: [target(worker.url, MODEL, "stream")]}
    server = Prometheus(tmp_path, targets, alerts.rule_file([], [MODEL]))
    stream.send([("k", b'{"x": 1}'), ("k", b"no json")])
    stream.dead_letters(1)
    done = f'sum({Metric.STREAM_MESSAGES}{{model="{MODEL}"}}) == 2'
    server.until(lambda: server.value(done), "Prometheus does not see the messages")
    yield server
    server.stop()


def test_every_query_about_streams_finds_its_series(asked):
    rules = alerts.stream_alerts()
    asked_for = [(rule["alert"], rule["expr"]) for rule in rules] + panels(dashboards.dashboards()["streams"])
    assert len(asked_for) > len(rules)
    absent = {name: found for name, query in asked_for if (found := asked.missing(query))}
    assert not absent
    firing = {name for name, query in asked_for[: len(rules)] if asked.ask(query)}
    assert firing <= {"DeadLetters"}, "one of two messages was refused, and nothing else is wrong"


def test_a_stream_without_workers_is_missed():
    groups = {group["name"]: group["rules"] for group in alerts.rule_file([], ["cards"])["groups"]}
    [missing] = [rule for rule in groups["slipway-streams"] if rule["alert"] == "ModelMissing"]
    assert json.dumps(missing).count("cards") == 2, "in its query and among its labels"
