"""The service's Prometheus metrics, in a registry of their own: two apps in one process do not collide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.process_collector import ProcessCollector

from services.contract import Metric

if TYPE_CHECKING:
    from services.inference.core.catalog import Catalog

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
        self.load_seconds = Gauge(
            Metric.MODEL_LOAD,
            "Time to fetch, verify, load and warm up the serving model.",
            names,
            registry=self._registry,
        ).labels(**base)
        self._base = base
        self._children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    @classmethod
    def of(cls, catalog: Catalog) -> Metrics:
        """Metrics of one process's models."""
        return cls(catalog.name, catalog.release)

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
