"""The service's Prometheus metrics, in a registry of their own: two apps in one process do not collide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.process_collector import ProcessCollector

from services.contract import Metric

if TYPE_CHECKING:
    from services.inference.core.catalog import ModelSpec

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""The oldest text format: every scraper reads it."""
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds. 50 ms, the usual objective, is a bound, so that its share is exact."""


class Metrics:
    """Metrics of `contract.Metric`, labelled with this process's model and release."""

    def __init__(self, model: str, release: str) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        base = {"model": model, "release": release}
        names = tuple(base)
        self._requests = Counter(
            Metric.REQUESTS.removesuffix("_total"),
            "Requests answered.",
            (*names, "protocol", "code"),
            registry=self._registry,
        )
        self._latency = Histogram(
            Metric.LATENCY,
            "From a request's arrival to its answer.",
            (*names, "protocol"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.in_flight = Gauge(
            Metric.IN_FLIGHT, "Requests accepted and not yet answered.", names, registry=self._registry
        ).labels(**base)
        self.rows = Counter(
            Metric.PREDICTED_ROWS.removesuffix("_total"), "Rows predicted.", names, registry=self._registry
        ).labels(**base)
        self._load_seconds = Gauge(
            Metric.MODEL_LOAD,
            "Time to fetch, verify, load and warm up a model.",
            (*names, "version"),
            registry=self._registry,
        )
        self._memory = Gauge(
            Metric.MODEL_MEMORY, "Memory that a loaded model takes.", (*names, "version"), registry=self._registry
        )
        self._load_failures = Counter(
            Metric.LOAD_FAILURES.removesuffix("_total"), "Loads that failed.", names, registry=self._registry
        )
        self._evictions = Counter(
            Metric.EVICTIONS.removesuffix("_total"), "Models taken out for room.", names, registry=self._registry
        )
        self._base = base
        self._children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def loaded(self, spec: ModelSpec, version: str, seconds: float, nbytes: int) -> None:
        """A model has been loaded, in that time; `nbytes` is what it takes."""
        labels = {**self._base, "model": spec.name, "version": version}
        self._load_seconds.labels(**labels).set(seconds)
        self._memory.labels(**labels).set(nbytes)

    def load_failed(self, spec: ModelSpec) -> None:
        """A load has failed."""
        self._load_failures.labels(**{**self._base, "model": spec.name}).inc()

    def evicted(self, spec: ModelSpec, version: str) -> None:
        """A model has been taken out for room."""
        labels = {**self._base, "model": spec.name}
        self._evictions.labels(**labels).inc()
        self._memory.labels(**labels, version=version).set(0)

    def answered(self, protocol: str, code: int, seconds: float) -> None:
        """Account for one request."""
        children = self._children.get((protocol, code))
        if children is None:
            children = self._children[protocol, code] = (
                self._requests.labels(**self._base, protocol=protocol, code=str(code)),
                self._latency.labels(**self._base, protocol=protocol),
            )
        requests, latency = children
        requests.inc()
        latency.observe(seconds)

    def render(self) -> bytes:
        """Text of all metrics, for a scraper."""
        return generate_latest(self._registry)
