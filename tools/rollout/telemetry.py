"""What Prometheus saw of two releases, as samples to judge by. What it does not say stays unknown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import httpx

from infra.telemetry import queries
from tools.rollout.verdict import Bounds, Histogram, Sample, Verdict, histogram, judge

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWER_SECONDS = 5.0
"""Longest wait for one answer."""

SHORTEST_SECONDS = 20.0
"""Of a window: some scrapes, or the newest requests are not in it yet."""

LOOK_BACK_SECONDS = 600.0
"""How long before the rollout the live release is measured from, at the most useful: its p99 wants many requests."""


class Telemetry:
    """One model's telemetry."""

    def __init__(self, url: str, model: str, *, shadow: str | None = None) -> None:
        """`shadow` is the release that is compared with the live one, None where none is."""
        self._client = httpx.Client(base_url=url, timeout=ANSWER_SECONDS)
        self._model = model
        self._shadow = shadow

    def verdict(self, live: str, candidate: str, bounds: Bounds, *, seconds: float, since: float) -> Verdict:
        """Judge the candidate's last `seconds`; the live release is measured from a while before the rollout began,
        `since` seconds ago, because it has less and less to do.
        """
        ours = self.sample(candidate, seconds)
        theirs = self.sample(live, since + LOOK_BACK_SECONDS)
        return judge(theirs, ours, bounds, scored=theirs.scores is not None, compared=candidate == self._shadow)

    def sample(self, release: str, seconds: float) -> Sample:
        """What a release did in the last so many seconds."""
        window = f"{math.ceil(max(seconds, SHORTEST_SECONDS))}s"

        def number(query: Callable[[str, str, str], str]) -> float | None:
            return self._number(query(self._model, release, window))

        requests, failing = number(queries.requests), number(queries.error_ratio)
        compared, differing = number(queries.shadow_rows), number(queries.shadow_disagreement)
        return Sample(
            requests=requests,
            errors=None if requests is None or failing is None else requests * failing,
            latency=self._histogram(queries.latencies(self._model, release, window)),
            scores=self._histogram(queries.scores(self._model, release, window)),
            compared=compared,
            differing=None if compared is None or differing is None else compared * differing,
        )

    def _number(self, query: str) -> float | None:
        found = self._ask(query)
        value = float(found[0]["value"][1]) if found else math.nan
        return value if math.isfinite(value) else None

    def _histogram(self, query: str) -> Histogram | None:
        found = {float(each["metric"]["le"]): float(each["value"][1]) for each in self._ask(query)}
        return histogram(found) if found and max(found.values()) > 0 else None

    def _ask(self, query: str) -> list[dict[str, Any]]:
        """An instant vector; empty where Prometheus does not answer, for a rollout holds then, and goes on looking."""
        try:
            answer = self._client.post("/api/v1/query", data={"query": query})
            answer.raise_for_status()
            content = answer.json()
        except (httpx.HTTPError, ValueError):
            return []
        result: list[dict[str, Any]] = content["data"]["result"]
        return result
