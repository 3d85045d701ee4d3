"""Counters and histograms of what happens on the event loop: plain numbers, put into families at a scrape.

The client library's take a lock for each number, and a request has a dozen: a quarter of what a small model's answer
costs. These belong to one thread, which needs none; any thread may read them.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Count:
    """One counter's value."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Distribution:
    """One histogram's values."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Values up to each bound and beyond the one before; the last is of those beyond all."""
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Take one value in."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


class Counters(Collector):
    """A family of counters, by the values of their labels."""

    def __init__(self, name: str, words: str, labels: Sequence[str]) -> None:
        self._family = (name.removesuffix("_total"), words, None, labels)
        self._children: dict[tuple[str, ...], Count] = {}

    def labels(self, *values: str) -> Count:
        """The counter of these labels; keep it where it counts every request."""
        return self._children.setdefault(values, Count())

    def collect(self) -> Iterator[CounterMetricFamily]:
        """All of them now."""
        family = CounterMetricFamily(*self._family)
        for values, child in list(self._children.items()):
            family.add_metric(values, child.value)
        yield family


class Histograms(Collector):
    """A family of histograms, by the values of their labels."""

    def __init__(self, name: str, words: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._family = (name, words, None, None, labels)
        self._bounds = bounds
        self._children: dict[tuple[str, ...], Distribution] = {}

    def labels(self, *values: str) -> Distribution:
        """The histogram of these labels; keep it where it sees every request."""
        return self._children.setdefault(values, Distribution(self._bounds))

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """All of them now."""
        family = HistogramMetricFamily(*self._family)
        bounds = [*map(str, map(float, self._bounds)), "+Inf"]
        for values, child in list(self._children.items()):
            counts = accumulate(map(float, child.counts))
            family.add_metric(values, list(zip(bounds, counts, strict=True)), child.sum)
        yield family
