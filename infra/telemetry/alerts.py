"""Alert rules, made of the models' objectives: what Prometheus evaluates, and what to do when one fires."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from infra.telemetry import runbooks
from infra.telemetry.queries import (
    BY_CLASS,
    FAILED,
    GATEWAY_MEMBERS,
    GATEWAY_REQUESTS,
    MODELS_JOB,
    PREDICTIONS,
    shifted,
)
from services.contract import LATENCY_BOUNDS, Metric

if TYPE_CHECKING:
    from collections.abc import Iterable

Severity: TypeAlias = Literal["page", "ticket"]

ERROR_RATE = 0.01
"""Share of failures that a model which promises nothing may have before someone is told."""

SLOW_BUDGET = 0.01
"""Share of the requests that may be slower than the objective: it is of the 99th percentile."""

SURELY_BAD = 0.95
"""No burn rate asks for a larger share of failures than this, or a generous objective would never alert."""

QUEUE_SHARE = 0.5
"""Of the latency's objective: what waits longer for the model has half of its time left."""

DISAGREEMENT = 0.05
COMPARED_ROWS = 100
DRIFT = 0.2
"""Distance of the scores' distributions, 0 to 1; see `queries.score_distance` for what chance alone makes of few."""

DRIFT_ROWS = 500
"""Below it chance alone may make a distance of 0.1."""

SHED_SHARE = 0.01

CATCH_UP_SECONDS = 600
"""Of a stream, at the pace of its last minutes: beyond it the workers are too few."""

DEAD_SHARE = 0.01
"""Of a stream's messages; a few are somebody's mistake, this many are the producer's or the model's."""

ABORTED_SHARE = 0.1
"""Of a stream's transactions; a rebalance costs one."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a model promises."""

    model: str
    p99_ms: float | None = None
    """99 of 100 predictions are answered within it, in milliseconds; None promises nothing."""
    error_rate: float = ERROR_RATE
    """Share of the requests that may fail with 5xx."""

    @property
    def bound(self) -> float:
        """The latency's bucket that the promise is judged by, in seconds: the first at or above it."""
        return next((bound for bound in LATENCY_BOUNDS if bound * 1000 >= (self.p99_ms or 0)), LATENCY_BOUNDS[-1])


@dataclass(frozen=True, kw_only=True)
class Burn:
    """How fast a budget of thirty days is spent: `rate` times too fast over both windows."""

    rate: float
    long: str
    short: str
    severity: Severity


BURNS = (
    # Google's SRE workbook, chapter 5, table 5-8: 2%, 5% and 10% of the budget are gone when these fire.
    Burn(rate=14.4, long="1h", short="5m", severity="page"),
    Burn(rate=6, long="6h", short="30m", severity="page"),
    Burn(rate=3, long="1d", short="2h", severity="ticket"),
)

REQUESTS = "slipway:requests:rate5m"
ERRORS = "slipway:errors:rate5m"
ANSWERED = "slipway:answered:rate5m"
SLOW = "slipway:slow:rate5m"


def rule_file(objectives: Iterable[Objective], streams: Iterable[str] = ()) -> dict[str, Any]:
    """Prometheus' rule file for realtime models with what they promise, and for streams that always have a worker."""
    models = sorted(objectives, key=lambda it: it.model)
    groups = {
        "records": [*_traffic(), *(record for each in models for record in _slow(each))],
        "releases": release_alerts(),
        "models": [alert for each in models for alert in model_alerts(each)],
        "streams": [*stream_alerts(), *map(_missing, sorted(streams))],
    }
    return {"groups": [{"name": f"slipway-{name}", "rules": rules} for name, rules in groups.items() if rules]}


def model_alerts(objective: Objective) -> list[dict[str, Any]]:
    """Alerts that depend on what the model promises."""
    model = objective.model
    of = f'{{model="{model}"}}'
    found = [_burning(objective, "ErrorBudgetBurn", ERRORS, REQUESTS, objective.error_rate, burn) for burn in BURNS]
    if objective.p99_ms is not None:
        found += [_burning(objective, "LatencyBudgetBurn", SLOW, ANSWERED, SLOW_BUDGET, burn) for burn in BURNS]
        waited = f"sum by (le) (rate({Metric.QUEUE_WAIT}_bucket{of}[5m]))"
        limit = objective.p99_ms / 1000 * QUEUE_SHARE
        found.append(
            _alert("QueueWait", f"histogram_quantile(0.99, {waited}) > {limit:g}", "5m", "ticket", model=model)
        )
    rows = f"increase({Metric.SCORES}_count{of}[1h])"
    return [
        *found,
        _missing(model),
        _alert(
            "ScoreDrift", f"{shifted(model, '1h', '1d')} > {DRIFT} and sum({rows}) > {DRIFT_ROWS}", "15m", "ticket",
            model=model,
        ),
    ]  # fmt: skip


def release_alerts() -> list[dict[str, Any]]:
    """Alerts on every model and release alike."""
    compared = f'sum by (model, release) (increase({Metric.SHADOW_ROWS}{{result=~"match|mismatch"}}[15m]))'
    differing = f'sum by (model, release) (increase({Metric.SHADOW_ROWS}{{result="mismatch"}}[15m]))'
    refused = f"sum by (model, release) (rate({Metric.SHED}[5m]))"
    answered = f"sum by (model, release) (rate({Metric.REQUESTS}{{{PREDICTIONS}}}[5m]))"
    return [
        # One request a second is traffic; a model that is asked now and then may rest.
        _alert("NoTraffic", f"{REQUESTS} == 0 and max_over_time({REQUESTS}[1h]) > 1", "10m", "ticket"),
        _alert("ReleaseNotReady", f"max by (model, release) ({GATEWAY_MEMBERS}) == 0", "3m", "page"),
        _alert("PodNotAnswering", f'up{{job="{MODELS_JOB}"}} == 0', "3m", "ticket"),
        _alert("Overloaded", f"{refused} > {SHED_SHARE} * {answered}", "5m", "page"),
        _alert(
            "ShadowDisagreement", f"{differing} / {compared} > {DISAGREEMENT} and {compared} > {COMPARED_ROWS}", "5m",
            "ticket",
        ),
    ]  # fmt: skip


def stream_alerts() -> list[dict[str, Any]]:
    """Alerts on every stream alike."""
    lag = f"sum by (model) ({Metric.STREAM_LAG})"
    done = f"sum by (model) (rate({Metric.STREAM_MESSAGES}[5m]))"
    dead = f"sum by (model) (rate({Metric.STREAM_DEAD_LETTERS}[15m]))"
    messages = f"sum by (model) (rate({Metric.STREAM_MESSAGES}[15m]))"
    commits = f"sum by (model) (rate({Metric.STREAM_COMMITS}[15m]))"
    aborts = f'sum by (model) (rate({Metric.STREAM_COMMITS}{{result="aborted"}}[15m]))'
    return [
        _alert("StreamStalled", f"{lag} > 0 and {done} == 0", "5m", "page"),
        _alert("StreamBehind", f"{lag} / ({done} > 0) > {CATCH_UP_SECONDS}", "10m", "ticket"),
        _alert("DeadLetters", f"{dead} / ({messages} > 0) > {DEAD_SHARE}", "5m", "ticket"),
        _alert("StreamAborts", f"{aborts} / ({commits} > 0) > {ABORTED_SHARE}", "15m", "ticket"),
    ]


def _missing(model: str) -> dict[str, Any]:
    return _alert("ModelMissing", f'absent(up{{job="{MODELS_JOB}",model="{model}"}})', "5m", "page", model=model)


def _traffic() -> list[dict[str, str]]:
    return [
        _record(REQUESTS, f"sum by (model) (rate({GATEWAY_REQUESTS}{{{BY_CLASS}}}[5m]))"),
        # A model that has never failed has no series of failures.
        _record(ERRORS, f"sum by (model) (rate({GATEWAY_REQUESTS}{{{FAILED}}}[5m])) or {REQUESTS} * 0"),
        _record(ANSWERED, f"sum by (model) (rate({Metric.LATENCY}_count{{{PREDICTIONS}}}[5m]))"),
    ]


def _slow(objective: Objective) -> list[dict[str, str]]:
    if objective.p99_ms is None:
        return []
    of = f'model="{objective.model}"'
    quick = f'{Metric.LATENCY}_bucket{{{of},{PREDICTIONS},le="{objective.bound}"}}'
    return [_record(SLOW, f"{ANSWERED}{{{of}}} - sum by (model) (rate({quick}[5m]))")]


def _burning(objective: Objective, name: str, bad: str, total: str, budget: float, burn: Burn) -> dict[str, Any]:
    # Sums of rates, not averages of ratios: an hour with little traffic counts for little.
    of = f'{{model="{objective.model}"}}'
    ratios = [
        f"sum_over_time({bad}{of}[{window}]) / sum_over_time({total}{of}[{window}])"
        for window in (burn.long, burn.short)
    ]
    limit = min(burn.rate * budget, SURELY_BAD)
    expression = " and ".join(f"{ratio} > {limit:g}" for ratio in ratios)
    return _alert(name, expression, "1m", burn.severity, model=objective.model, window=burn.long)


def _record(name: str, expression: str) -> dict[str, str]:
    return {"record": name, "expr": expression}


def _alert(name: str, expression: str, lasting: str, severity: Severity, **labels: str) -> dict[str, Any]:
    summary, runbook = runbooks.TEXTS[name]
    return {
        "alert": name,
        "expr": expression,
        "for": lasting,
        "labels": {"severity": severity, **labels},
        "annotations": {"summary": summary, "runbook": runbook},
    }
