"""What is asked of Prometheus about a release: the queries that verdicts, alerts and dashboards are made of.

Requests and failures are the gateway's, as callers see them: a release that answers nothing at all counts nothing
itself. Times, scores and comparisons are the service's own. Where there is nothing to judge, an answer is empty:
whoever asks has to hold, never to pass. `window` is a duration of PromQL (`30s`, `5m`), at least four scrapes long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.contract import Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MODELS_JOB = "slipway-models"
"""Scrapes every pod of every release."""

GATEWAY_JOB = "slipway-gateway"
"""Scrapes the gateway's Envoy; its series of a release carry `model` and `release`, as the service's do."""

GATEWAY_REQUESTS = "envoy_cluster_upstream_rq"
"""Counter of answers by `response_code` and, apart from that, by `response_code_class`."""

GATEWAY_MEMBERS = "envoy_cluster_membership_total"
"""Gauge of the pods behind a release's Service that are ready."""

GATEWAY_METRICS = (GATEWAY_REQUESTS, GATEWAY_MEMBERS, "envoy_cluster_upstream_rq_time_bucket")
"""What is kept of the gateway's hundreds of series."""

BY_CLASS = 'response_code_class!=""'
FAILED = 'response_code_class="5xx"'

PREDICTIONS = 'protocol!="other"'
"""Requests for predictions, by the service's metrics; `other` are probes and metadata."""


def requests(model: str, release: str, window: str) -> str:
    """Requests that the gateway had answered for the release."""
    return f"sum({grown(_series(GATEWAY_REQUESTS, model, release, BY_CLASS), window)})"


def error_ratio(model: str, release: str, window: str) -> str:
    """Share of them that failed with 5xx, from 0 to 1; empty without any request."""
    failed = f"sum({grown(_series(GATEWAY_REQUESTS, model, release, FAILED), window)})"
    return f"({failed} or vector(0)) / ({requests(model, release, window)} > 0)"


def served(model: str, release: str, window: str) -> str:
    """Predictions that the release itself counted, well answered or not, over every protocol."""
    return f"sum({grown(_series(Metric.REQUESTS, model, release, PREDICTIONS), window)})"


def latency(model: str, release: str, quantile: float, window: str) -> str:
    """Quantile of the time from a prediction's arrival at the service to its answer, in seconds."""
    buckets = grown(_series(f"{Metric.LATENCY}_bucket", model, release, PREDICTIONS), window)
    # Not a number where nothing was answered: the comparison leaves that out.
    return f"histogram_quantile({quantile}, sum by (le) ({buckets})) >= 0"


def latencies(model: str, release: str, window: str) -> str:
    """Histogram of those times: predictions up to each bound in seconds, by `le`."""
    return f"sum by (le) ({grown(_series(f'{Metric.LATENCY}_bucket', model, release, PREDICTIONS), window)})"


def p50(model: str, release: str, window: str) -> str:
    """Median latency, in seconds."""
    return latency(model, release, 0.5, window)


def p99(model: str, release: str, window: str) -> str:
    """The latency that one request in a hundred exceeds, in seconds."""
    return latency(model, release, 0.99, window)


def scored_rows(model: str, release: str, window: str) -> str:
    """Rows with a score."""
    return f"sum({grown(_series(f'{Metric.SCORES}_count', model, release), window)})"


def scores(model: str, release: str, window: str) -> str:
    """Histogram of the scores: rows up to each bound, by `le`."""
    return f"sum by (le) ({grown(_series(f'{Metric.SCORES}_bucket', model, release), window)})"


def score_distance(model: str, release: str, reference: str, window: str) -> str:
    """How far a release's scores are from another's, from 0 (alike) to 1: Kolmogorov's and Smirnov's distance.

    Of two samples of n and m rows of one distribution it exceeds 1.63 · √(1/n + 1/m) once in a hundred times.
    """
    return _distance(
        scores(model, release, window),
        scored_rows(model, release, window),
        scores(model, reference, window),
        scored_rows(model, reference, window),
    )


def shadow_rows(model: str, release: str, window: str) -> str:
    """Rows that the release and its shadow have both answered."""
    compared = _series(Metric.SHADOW_ROWS, model, release, 'result=~"match|mismatch"')
    return f"sum({grown(compared, window)})"


def shadow_disagreement(model: str, release: str, window: str) -> str:
    """Share of those rows in which an output differs beyond the tolerance; empty where none was compared."""
    differing = _series(Metric.SHADOW_ROWS, model, release, 'result="mismatch"')
    return f"sum({grown(differing, window)}) / ({shadow_rows(model, release, window)} > 0)"


def requests_per_second(model: str, release: str) -> str:
    """Predictions per second over the last ten, by `pod`; what autoscaling follows."""
    return f"sum by (pod) ({_series(Metric.REQUEST_RATE, model, release)})"


def ready_pods(model: str, release: str) -> str:
    """Pods of the release that answer and have loaded their model; 0 where there are pods and none does."""
    scraped = _series("up", model, release, f'job="{MODELS_JOB}"')
    loaded = f"{scraped} == 1 and on (namespace, pod) {_series(Metric.MODEL_LOAD, model, release)}"
    return f"count({loaded}) or count({scraped}) * 0"


VERDICTS: Mapping[str, Callable[[str, str, str], str]] = {
    "requests": requests,
    "error ratio": error_ratio,
    "served": served,
    "latencies": latencies,
    "p50": p50,
    "p99": p99,
    "scored rows": scored_rows,
    "scores": scores,
    "score distance": lambda model, release, window: score_distance(model, release, release, window),
    "shadow rows": shadow_rows,
    "shadow disagreement": shadow_disagreement,
    "requests per second": lambda model, release, _: requests_per_second(model, release),
    "ready pods": lambda model, release, _: ready_pods(model, release),
}
"""Every query by name, of (model, release, window): what the telemetry contract test runs."""


def shifted(model: str, window: str, reference: str) -> str:
    """How far a model's scores of `window` are from those of the `reference` before it, whichever release answered."""
    now, before = f"[{window}]", f"[{reference}] offset {window}"
    of = f'{{model="{model}"}}'
    return _distance(
        f"sum by (le) (increase({Metric.SCORES}_bucket{of}{now}))",
        f"sum(increase({Metric.SCORES}_count{of}{now}))",
        f"sum by (le) (increase({Metric.SCORES}_bucket{of}{before}))",
        f"sum(increase({Metric.SCORES}_count{of}{before}))",
    )


def grown(series: str, window: str) -> str:
    """By how much each counter grew. `increase` leaves out what a counter holds when it is first seen, and the first
    failure of a release is just that; a counter that did not exist a window ago has grown by all it holds.
    """
    return f"(({series} unless {series} offset {window}) or increase({series}[{window}]))"


def _distance(one: str, rows: str, other: str, other_rows: str) -> str:
    return f"max(abs({one} / scalar({rows}) - {other} / scalar({other_rows}))) >= 0"


def _series(metric: str, model: str, release: str, *matchers: str) -> str:
    labels = ",".join((f'model="{model}"', f'release="{release}"', *matchers))
    return f"{metric}{{{labels}}}"
