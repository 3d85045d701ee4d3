"""What a stream worker counts, beside the metrics of its model. Told by the worker's thread, read by any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.contract import LATENCY_BOUNDS, Metric
from services.inference.adapters.telemetry.tally import Counters, Histograms

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client import CollectorRegistry

DELAYS = (*LATENCY_BOUNDS, 30.0, 60.0, 300.0, 1800.0, 7200.0)
"""A worker that catches up after an outage has hours to catch up."""


class StreamMetrics(Collector):
    """Metrics of one worker, in its process's registry."""

    def __init__(self, model: str, release: str, registry: CollectorRegistry) -> None:
        self._base = (model, release)
        names = ("model", "release")
        self._messages = Counters(Metric.STREAM_MESSAGES, "Messages of committed transactions.", (*names, "result"))
        self._dead = Counters(Metric.STREAM_DEAD_LETTERS, "Committed dead letters.", (*names, "error"))
        self._commits = Counters(Metric.STREAM_COMMITS, "Commits and aborts.", (*names, "result"))
        self._seconds = Histograms(Metric.STREAM_COMMIT_SECONDS, "Time of a commit.", names, LATENCY_BOUNDS)
        self._delay = Histograms(Metric.STREAM_DELAY, "Age of a commit's oldest message.", names, DELAYS)
        self._lag: dict[int, int] = {}
        # There from the start: a rate of what appears with its first count has missed it.
        for counters, results in ((self._messages, ("predicted", "dead")), (self._commits, ("committed", "aborted"))):
            for result in results:
                counters.labels(*self._base, result)
        for family in (self._messages, self._dead, self._commits, self._seconds, self._delay, self):
            registry.register(family)

    def committed(self, messages: int, errors: Mapping[str, int], seconds: float, delay: float | None) -> None:
        """A transaction of so many messages counts, of which some were refused, by class of error."""
        dead = sum(errors.values())
        self._messages.labels(*self._base, "predicted").value += messages - dead
        self._messages.labels(*self._base, "dead").value += dead
        for error, count in errors.items():
            self._dead.labels(*self._base, error).value += count
        self._commits.labels(*self._base, "committed").value += 1
        self._seconds.labels(*self._base).observe(seconds)
        if delay is not None:
            self._delay.labels(*self._base).observe(max(0.0, delay))

    def aborted(self) -> None:
        """A transaction was given up."""
        self._commits.labels(*self._base, "aborted").value += 1

    def lag(self, partition: int, messages: int) -> None:
        """So many of a partition's messages are not answered yet."""
        self._lag[partition] = messages

    def forget_lag(self, partitions: Sequence[int]) -> None:
        """They are another worker's now."""
        for partition in partitions:
            self._lag.pop(partition, None)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The lag, by partition."""
        family = GaugeMetricFamily(
            Metric.STREAM_LAG, "Messages without an answer.", labels=["model", "release", "partition"]
        )
        for partition, messages in sorted(self._lag.copy().items()):
            family.add_metric([*self._base, str(partition)], messages)
        yield family
