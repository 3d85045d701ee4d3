"""What models answer, counted: by class and by score. A shift of either is the first sign of drift."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from services.contract import Metric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric as Family

    from services.inference.core.types import Array, Outputs

SCORE_BOUNDS = np.round(np.arange(0.05, 1.0, 0.05), 2)
"""Upper bounds of the score's buckets below 1."""

KNOWN_CLASSES = 64
"""Classes with a series of their own per model; the rest are counted as `other`."""


@dataclass
class _Seen:
    classes: Counter[str] = field(default_factory=Counter)
    scores: Array = field(default_factory=lambda: np.zeros(len(SCORE_BOUNDS) + 1, dtype=np.int64))
    sum: float = 0.0


class Predictions(Collector):
    """Counts per batch, with numpy: a call of the client library per row would cost more than a small model."""

    def __init__(self, release: str) -> None:
        self._release = release
        self._seen: dict[str, _Seen] = {}

    def observe(self, model: str, outputs: Outputs, rows: int) -> None:
        """Take a batch's outputs in: `prediction` where it is a class, `probability` where it is one number a row."""
        classes, scores = outputs.get("prediction"), outputs.get("probability")
        if classes is None or classes.ndim != 1 or classes.dtype.kind == "f":
            classes = None
        if classes is None and scores is None:
            return
        seen = self._seen.get(model)
        if seen is None:
            seen = self._seen[model] = _Seen()
        if classes is not None:
            values, counts = np.unique(classes[:rows], return_counts=True)
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                name = str(value)
                seen.classes[name if name in seen.classes or len(seen.classes) < KNOWN_CLASSES else "other"] += count
        if scores is not None and scores.ndim == 1:
            at = np.searchsorted(SCORE_BOUNDS, scores[:rows])
            seen.scores += np.bincount(at, minlength=len(seen.scores))
            seen.sum += float(scores[:rows].sum())

    def collect(self) -> Iterator[Family]:
        """Both families."""
        labels = ["model", "release"]
        counted = CounterMetricFamily(
            Metric.PREDICTIONS.removesuffix("_total"), "Rows by class.", labels=[*labels, "class"]
        )
        scored = HistogramMetricFamily(Metric.SCORES, "Scores of predicted rows.", labels=labels)
        for model, seen in self._seen.items():
            for name, count in sorted(seen.classes.items()):
                counted.add_metric([model, self._release, name], count)
            if seen.scores.any():
                bounds = [*map(str, SCORE_BOUNDS.tolist()), "+Inf"]
                buckets = list(zip(bounds, accumulate(map(float, seen.scores)), strict=True))
                scored.add_metric([model, self._release], buckets, seen.sum)
        yield counted
        yield scored


class GpuMemory(Collector):
    """Memory of this process on each GPU; nothing where none is used."""

    def __init__(self, release: str) -> None:
        self._release = release

    def collect(self) -> Iterator[Family]:
        """One family."""
        found = GaugeMetricFamily(Metric.GPU_MEMORY, "GPU memory of this process.", labels=["release", "device"])
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            for device in range(torch.cuda.device_count()):
                found.add_metric([self._release, str(device)], torch.cuda.memory_allocated(device))
        yield found
