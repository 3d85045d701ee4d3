"""The pre-deployment checklist: verdicts on a document's figures. Pure; no verdict is ever read from the document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from infra.evidence.document import FALLING, P99_RATIO, RISING, Document, data, figures, number, text

ERROR_RATE = 0.01
"""Share of failed requests that an evaluation may have where the model's `slo.errorRate` says nothing."""

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What figures are held against."""

    p99_ms: float | None = None
    """The model's `slo.p99Ms`."""
    error_rate: float = ERROR_RATE
    memory_bytes: float | None = None
    """Memory of a replica of the release."""
    minimum: Mapping[str, float] = field(default_factory=dict)
    """Least value by holdout metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One line of a checklist."""

    item: str
    passed: bool
    shown: str
    """What was found, for people."""
    bound: str = ""
    """What it was held against."""
    remedy: str = ""
    """What to do where it failed."""


Judge: TypeAlias = Callable[[Mapping[str, Any], Bounds], tuple[bool, str, str]]
"""Whether an item's figures pass, what they are, what they were held against."""


def judge(document: Document, bounds: Bounds) -> list[Verdict]:
    """A verdict on every item, in the order of the checklist."""
    verdicts = []
    for item, (judged, remedy) in ITEMS.items():
        measured = figures(document, item)
        passed, shown, bound = judged(measured, bounds) if measured else (False, "not measured", "")
        verdicts.append(Verdict(item=item, passed=passed, shown=shown, bound=bound, remedy="" if passed else remedy))
    return verdicts


def below_minimum(document: Document, minimum: Mapping[str, float]) -> list[str]:
    """Metrics that are less than they have to be, or were not measured."""
    measured = figures(document, "holdout")
    found = []
    for metric, least in sorted(minimum.items()):
        value = number(measured, metric)
        if value is None:
            found.append(f"{metric} was not measured, at least {least:g} is demanded")
        elif value < least:
            found.append(f"{metric} is {value:.4g}, at least {least:g} is demanded")
    return found


def regressions(document: Document, live: Document, margins: Mapping[str, float]) -> list[str]:
    """Where a candidate is worse than what is live by more than the margin.

    Metrics of different data say nothing about each other, and what the live release has and the candidate lacks was
    not compared: both are findings, never passes.
    """
    found = []
    metrics = sorted(set(margins) & (RISING | FALLING))
    candidates, lives = figures(document, "holdout"), figures(live, "holdout")
    compared = [metric for metric in metrics if number(lives, metric) is not None]
    if compared and data(document).get("sha256") != data(live).get("sha256"):
        compared = []
        found.append("its metrics are of other data than those of the live release")
    for metric in compared:
        before, now = number(lives, metric), number(candidates, metric)
        margin = margins[metric]
        if before is None or now is None:
            found.append(f"{metric} was not measured, the live release has it")
        elif (before - now if metric in RISING else now - before) > margin:
            found.append(f"{metric} is {now:.4g}, {before:.4g} in the live release, by more than {margin:g} worse")
    if P99_RATIO in margins:
        found += _slower(document, live, margins[P99_RATIO])
    return found


def _slower(document: Document, live: Document, ratio: float) -> list[str]:
    now, before = (number(figures(each, "latency"), "p99Ms") for each in (document, live))
    if before is None:
        return []
    if now is None:
        return ["p99 was not measured, the live release has it"]
    if now <= before * ratio:
        return []
    return [f"p99 is {now:.3g} ms, {before:.3g} ms in the live release, more than {ratio:g} times as slow"]


def _holdout(measured: Mapping[str, Any], bounds: Bounds) -> tuple[bool, str, str]:
    rows = number(measured, "rows")
    metrics = {name: value for name in RISING | FALLING if (value := number(measured, name)) is not None}
    wrong = below_minimum({"items": {"holdout": {"figures": measured}}}, bounds.minimum)
    shown = ", ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()))
    bound = ", ".join(f"{name} ≥ {least:g}" for name, least in sorted(bounds.minimum.items()))
    return bool(rows and metrics) and not wrong, f"{shown or 'no metric'} over {rows or 0:.0f} rows", bound


def _latency(measured: Mapping[str, Any], bounds: Bounds) -> tuple[bool, str, str]:
    p50, p99, rate = (number(measured, name) for name in ("p50Ms", "p99Ms", "ratePerSecond"))
    if p50 is None or p99 is None or rate is None:
        return False, "not measured", ""
    failed, errors, limit = _errors(measured, bounds)
    fast = bounds.p99_ms is None or p99 <= bounds.p99_ms
    held = f"p99 ≤ {bounds.p99_ms:g} ms, {limit}" if bounds.p99_ms is not None else f"{limit}; slo.p99Ms says nothing"
    return fast and not failed, f"p50 {p50:.3g} ms, p99 {p99:.3g} ms at {rate:g}/s, {errors}", held


def _memory(measured: Mapping[str, Any], bounds: Bounds) -> tuple[bool, str, str]:
    peak = number(measured, "peakBytes")
    if not peak:
        return False, "not measured", ""
    limit = bounds.memory_bytes
    shown = f"{peak / MEBIBYTE:.0f} MiB at most"
    if limit is None:
        return True, shown, "no release says how much it has"
    return peak <= limit, shown, f"≤ {limit / MEBIBYTE:.0f} MiB"


def _load(measured: Mapping[str, Any], bounds: Bounds) -> tuple[bool, str, str]:
    rate = number(measured, "requestsPerSecond")
    failed, errors, limit = _errors(measured, bounds)
    return bool(rate) and not failed, f"{rate or 0:.0f} requests/s, {errors}", limit


def _errors(measured: Mapping[str, Any], bounds: Bounds) -> tuple[bool, str, str]:
    requests, errors = number(measured, "requests"), number(measured, "errors")
    limit = f"errors ≤ {bounds.error_rate:.2%}"
    if not requests or errors is None:
        return True, "no request was counted", limit
    return errors / requests > bounds.error_rate, f"{errors:.0f} of {requests:.0f} requests failed", limit


def _transformer(measured: Mapping[str, Any], _: Bounds) -> tuple[bool, str, str]:
    kind, digest = text(measured, "kind"), text(measured, "digest")
    included = kind == "none" or bool(kind and digest)
    shown = "the model takes its features as they are" if kind == "none" else f"{kind or 'unknown'} {digest[:19]}"
    rows, difference, tolerance = (number(measured, f"golden{name}") for name in ("Rows", "Difference", "Tolerance"))
    if not rows:
        return included, f"{shown}; no golden rows", ""
    equal = difference is not None and tolerance is not None and difference <= tolerance
    told = "unknown" if difference is None else f"{difference:.2g}"
    bound = "" if tolerance is None else f"≤ {tolerance:g}"
    return included and equal, f"{shown}; {rows:.0f} golden rows differ by {told}", bound


def _rollback(measured: Mapping[str, Any], _: Bounds) -> tuple[bool, str, str]:
    alias, answers, restores = (text(measured, name) for name in ("alias", "answers", "restores"))
    if measured.get("first") is True:
        return True, "the model's first version, nothing to go back to", ""
    if measured.get("settled") is not True or not answers:
        return False, f"{alias or 'no alias'} does not say which version answers", ""
    back = f"a rollback restores {restores}" if restores else "nothing before it"
    return True, f"{alias} is version {answers}, {back}", ""


def _monitoring(measured: Mapping[str, Any], _: Bounds) -> tuple[bool, str, str]:
    series, missing = measured.get("series"), measured.get("missing")
    # The policy engine's lists are of a type of its own.
    if not isinstance(series, Sequence) or not isinstance(missing, Sequence) or not series:
        return False, "not measured", ""
    lacking = ", ".join(map(str, missing))
    return (
        not missing,
        f"{len(series)} series at /metrics" + (f", {lacking} missing" if missing else ""),
        "none missing",
    )


ITEMS: Mapping[str, tuple[Judge, str]] = {
    "holdout": (_holdout, "train a better model, or lower slipway:evidence.minimum"),
    "latency": (_latency, "make the model faster, or raise slo.p99Ms of the model"),
    "memory": (_memory, "raise resources.memory of the release"),
    "load": (_load, "read the service's log of the evaluation, mend the model"),
    "transformer": (_transformer, "write the bundle with the transformer that it was trained with"),
    "rollback": (_rollback, "`slipway models promote NAME/VERSION` with the version that answers today"),
    "monitoring": (_monitoring, "serve it with this repository's inference service"),
}
"""Every item with its judge and the remedy for people."""
