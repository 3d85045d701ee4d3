"""The service's Prometheus metrics, in a registry of their own: two apps in one process do not collide."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.process_collector import ProcessCollector

from services.contract import LATENCY_BOUNDS, Metric
from services.inference.adapters.telemetry.predictions import GpuMemory, Predictions
from services.inference.adapters.telemetry.tally import Counters, Histograms

if TYPE_CHECKING:
    from services.inference.adapters.telemetry.tally import Count, Distribution
    from services.inference.core.catalog import ModelSpec
    from services.inference.core.schema import ModelInfo
    from services.inference.core.shadow import Comparison
    from services.inference.core.types import Outputs

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""The oldest text format: every scraper reads it."""

MODEL_SECONDS = (0.0001, 0.00025, 0.0005, *LATENCY_BOUNDS)
"""A small model takes microseconds."""
DIFFERENCES = (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

RATE_SECONDS = 10
"""Window of the rate of requests: long enough to be steady, short enough to scale by."""


class Metrics:
    """Metrics of `contract.Metric`. It observes the catalog and every pipeline."""

    def __init__(self, model: str, release: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nothing reads
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._model, self._release = model, release
        names = ("model", "release")
        base = (model, release)

        def counter(metric: Metric, words: str, *labels: str) -> Counter:
            return Counter(metric.removesuffix("_total"), words, (*names, *labels), registry=registry)

        def counters(metric: Metric, words: str, *labels: str) -> Counters:
            family = Counters(metric, words, (*names, *labels))
            registry.register(family)
            return family

        def histograms(metric: Metric, words: str, bounds: tuple[float, ...], *labels: str) -> Histograms:
            family = Histograms(metric, words, (*names, *labels), bounds)
            registry.register(family)
            return family

        def gauge(metric: Metric, words: str, *labels: str) -> Gauge:
            return Gauge(metric, words, (*names, *labels), registry=registry)

        def histogram(metric: Metric, words: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(metric, words, (*names, *labels), buckets=buckets, registry=registry)

        self._requests = counters(Metric.REQUESTS, "Requests answered.", "protocol", "code")
        self._latency = histograms(
            Metric.LATENCY, "From a request's arrival to its answer.", LATENCY_BOUNDS, "protocol"
        )
        self.in_flight = 0
        waiting = gauge(Metric.IN_FLIGHT, "Requests accepted and not yet answered.").labels(*base)
        waiting.set_function(lambda: self.in_flight)
        self._rate = Rate()
        gauge(Metric.REQUEST_RATE, "Predictions answered per second.").labels(*base).set_function(self._rate.value)
        self._rows = counters(Metric.PREDICTED_ROWS, "Rows predicted.")
        self._batch_rows = histograms(Metric.BATCH_ROWS, "Rows that went to the model at once.", ROWS)
        self._batch_seconds = histograms(Metric.BATCH_SECONDS, "Time of the model for a batch.", MODEL_SECONDS)
        self._queue_wait = histograms(Metric.QUEUE_WAIT, "Wait of each batch's oldest request.", MODEL_SECONDS)
        self._shed = counters(Metric.SHED, "Requests refused or given up for lack of time.", "reason")
        self._load_seconds = gauge(Metric.MODEL_LOAD, "Time to fetch, verify, load and warm up a model.", "version")
        self._memory = gauge(Metric.MODEL_MEMORY, "Memory that a loaded model takes.", "version")
        self._load_failures = counter(Metric.LOAD_FAILURES, "Loads that failed.")
        self._evictions = counter(Metric.EVICTIONS, "Models taken out for room.")
        self._logged_rows = counter(Metric.LOGGED_ROWS, "Rows of the prediction log.", "result")
        self._shadow_rows = counter(Metric.SHADOW_ROWS, "Rows that were copied to a shadow.", "shadow", "result")
        self._shadow_difference = histogram(
            Metric.SHADOW_DIFFERENCE, "Largest difference of a row's outputs.", DIFFERENCES, "shadow"
        )
        self._shadow_seconds = histogram(Metric.SHADOW_SECONDS, "Time of the shadow.", MODEL_SECONDS, "shadow")
        self._predictions = Predictions(release)
        registry.register(self._predictions)
        registry.register(GpuMemory(release))
        self._answered: dict[tuple[str, str, int], tuple[Count, Distribution]] = {}
        self._batched: dict[str, tuple[Count, Distribution, Distribution, Distribution]] = {}

    def answered(self, model: str | None, protocol: str, code: int, seconds: float, *, prediction: bool) -> None:
        """Account for one request; None is the process's own model."""
        model = self._model if model is None else model
        children = self._answered.get((model, protocol, code))
        if children is None:
            labels = (model, self._release, protocol)
            children = self._answered[model, protocol, code] = (
                self._requests.labels(*labels, str(code)),
                self._latency.labels(*labels),
            )
        requests, latency = children
        requests.value += 1
        latency.observe(seconds)
        if prediction:
            self._rate.count()

    def batch(self, info: ModelInfo, outputs: Outputs, *, rows: int, seconds: float, waited: float) -> None:
        """A model has answered a batch. `outputs` may be padded beyond `rows`."""
        children = self._batched.get(info.name)
        if children is None:
            labels = (info.name, self._release)
            children = self._batched[info.name] = (
                self._rows.labels(*labels),
                self._batch_rows.labels(*labels),
                self._batch_seconds.labels(*labels),
                self._queue_wait.labels(*labels),
            )
        total, sizes, times, waits = children
        total.value += rows
        sizes.observe(rows)
        times.observe(seconds)
        waits.observe(waited)
        self._predictions.observe(info.name, outputs, rows)

    def shed(self, info: ModelInfo, reason: str) -> None:
        """A request was refused because of load, or its time passed."""
        self._shed.labels(info.name, self._release, reason).value += 1

    def compared(self, model: str, shadow: str, comparison: Comparison) -> None:
        """A model and its shadow have both answered."""
        labels = (model, self._release, shadow)
        rows = len(comparison.differences)
        self._shadow_rows.labels(*labels, "match").inc(comparison.matches)
        self._shadow_rows.labels(*labels, "mismatch").inc(rows - comparison.matches)
        difference = self._shadow_difference.labels(*labels)
        for value in comparison.differences.tolist():
            difference.observe(value)
        self._shadow_seconds.labels(*labels).observe(comparison.seconds)

    def not_compared(self, model: str, shadow: str, rows: int, reason: str) -> None:
        """A shadow has not answered, for that reason."""
        self._shadow_rows.labels(model, self._release, shadow, reason).inc(rows)

    def logged(self, model: str, rows: int, result: str) -> None:
        """What became of rows that the prediction log has chosen."""
        self._logged_rows.labels(model, self._release, result).inc(rows)

    def loaded(self, spec: ModelSpec, version: str, seconds: float, nbytes: int) -> None:
        """A model has been loaded, in that time; `nbytes` is what it takes."""
        self._load_seconds.labels(spec.name, self._release, version).set(seconds)
        self._memory.labels(spec.name, self._release, version).set(nbytes)

    def load_failed(self, spec: ModelSpec) -> None:
        """A load has failed."""
        self._load_failures.labels(spec.name, self._release).inc()

    def evicted(self, spec: ModelSpec, version: str) -> None:
        """A model has been taken out for room."""
        self._evictions.labels(spec.name, self._release).inc()
        self._memory.labels(spec.name, self._release, version).set(0)

    def render(self) -> bytes:
        """Text of all metrics, for a scraper."""
        return generate_latest(self.registry)


class Rate:
    """Events per second over the last whole seconds."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def count(self) -> None:
        """One event, now."""
        second = int(time.monotonic())
        counts = self._counts
        if second in counts:
            counts[second] += 1
            return
        counts[second] = 1
        for old in [known for known in counts if known < second - RATE_SECONDS]:
            del counts[old]

    def value(self) -> float:
        """The rate; the second under way does not count yet."""
        now = int(time.monotonic())
        return sum(self._counts.get(second, 0) for second in range(now - RATE_SECONDS, now)) / RATE_SECONDS
