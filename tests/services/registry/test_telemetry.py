"""What the service says about itself: every metric documented, every document a metric, and the numbers right."""

import ast
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services import contract
from services.contract import Metric
from services.inference.adapters.stream.metrics import StreamMetrics
from services.inference.adapters.telemetry import metrics as module
from services.inference.adapters.telemetry.metrics import Metrics, Rate
from services.inference.core.catalog import ModelSpec
from services.inference.core.schema import ModelInfo, ModelMetadata, Schema, TensorSpec
from services.inference.core.shadow import Comparison

SCHEMA = Schema(tensors=(TensorSpec(name="x", datatype="FP32"),))
METADATA = ModelMetadata(platform="test", schema=SCHEMA, outputs=(), score="y", example=SCHEMA.zeros())


def info(name="fraud"):
    return ModelInfo(name=name, version="1", release="r", digest="", metadata=METADATA)


def samples(metrics):
    families = text_string_to_metric_families(metrics.render().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(metrics, name, **labels):
    return samples(metrics)[str(name), tuple(sorted(labels.items()))]


def used():
    """Metrics to which everything has happened."""
    metrics = Metrics("fraud", "r")
    spec = ModelSpec(name="fraud", uri="u")
    metrics.answered(None, "v2", 200, 0.01, prediction=True)
    outputs = {"prediction": np.array([1, 0, 1]), "probability": np.array([0.9, 0.1, 0.5])}
    metrics.batch(info(), outputs, rows=3, seconds=0.002, waited=0.001)
    metrics.shed(info(), "overloaded")
    metrics.compared("fraud", "next", Comparison(1, np.array([0.0, 0.5]), 0.001))
    metrics.loaded(spec, "1", 2.0, 100)
    metrics.load_failed(spec)
    metrics.evicted(spec, "1")
    stream = StreamMetrics("fraud", "r", metrics.registry)
    stream.committed(3, {"MalformedBody": 1}, 0.01, 0.1)
    stream.aborted()
    stream.lag(0, 7)
    return metrics


def documented():
    """Members of `Metric` that a docstring follows."""
    tree = ast.parse(Path(contract.__file__).read_text())
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Metric").body
    return {
        first.value.value: second.value.value
        for first, second in itertools.pairwise(body)
        if isinstance(first, ast.Assign) and isinstance(second, ast.Expr)
    }


def test_every_metric_served_is_documented_with_its_kind_and_labels_and_every_one_documented_is_served():
    families = {
        family.name: family
        for family in text_string_to_metric_families(used().render().decode())
        if family.name.startswith("slipway_")
    }
    words = documented()
    assert set(words) == set(map(str, Metric)), "a member without a docstring, or a docstring without a member"
    assert {name.removesuffix("_total") for name in words} == set(families)
    for name, text in words.items():
        family = families[name.removesuffix("_total")]
        assert text.lower().startswith(family.type), f"{name} is a {family.type}"
        if not family.samples:
            continue  # of GPUs, where there are none
        labels = set().union(*[sample.labels for sample in family.samples]) - {"model", "release", "le"}
        assert labels == set(re.findall(r"(?:by|and) `(\w+)`", text)), f"{name}: its labels stand in its docstring"


def test_a_batch_counts_its_own_rows_and_none_of_the_padding():
    metrics = Metrics("fraud", "r")
    outputs = {"prediction": np.array([1, 0, 0, 0]), "probability": np.array([0.9, 0.1, 0.1, 0.1])}
    metrics.batch(info(), outputs, rows=2, seconds=0.1, waited=0.0)
    labels = {"model": "fraud", "release": "r"}
    assert value(metrics, Metric.PREDICTED_ROWS, **labels) == 2
    assert value(metrics, Metric.PREDICTIONS, **labels, **{"class": "0"}) == 1
    assert value(metrics, Metric.SCORES + "_count", **labels) == 2
    assert value(metrics, Metric.SCORES + "_sum", **labels) == pytest.approx(1.0)
    assert value(metrics, Metric.SCORES + "_bucket", **labels, le="0.1") == 1


def test_values_of_a_regression_are_no_classes():
    metrics = Metrics("m", "r")
    metrics.batch(info("m"), {"prediction": np.array([1.5, 2.5])}, rows=2, seconds=0.1, waited=0.0)
    assert not [name for name, _ in samples(metrics) if name == Metric.PREDICTIONS]


def test_classes_without_end_do_not_make_series_without_end():
    metrics = Metrics("m", "r")
    metrics.batch(info("m"), {"prediction": np.arange(1000)}, rows=1000, seconds=0.1, waited=0.0)
    found = {labels: n for (name, labels), n in samples(metrics).items() if name == Metric.PREDICTIONS}
    assert len(found) == 65
    assert sum(found.values()) == 1000


def test_the_rate_is_of_the_last_whole_seconds(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    rate = Rate()
    for second in range(5):
        clock[0] = 100.5 + second
        for _ in range(20):
            rate.count()
    assert rate.value() == 8, "four whole seconds of twenty, over ten; the fifth is under way"
    clock[0] += 60
    assert rate.value() == 0


def test_a_made_up_model_makes_no_series(service, client):
    client.post("/v2/models/made-up-by-a-caller/infer", json={})
    assert "made-up-by-a-caller" not in client.get("/metrics").text
