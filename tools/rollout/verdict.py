"""Whether a candidate may have more traffic: pure arithmetic on what was measured, aware of how much that is.

Each check compares shares of requests, and a share of few requests says little. So each has three outcomes: the share
is within its bound (`pass`), surely beyond it (`fail`), or beyond it by what may be chance, or by too few to say
(`hold`). Surely means by the exact binomial test at `CONFIDENCE`. What was not measured is `hold`, never `pass`: a
rollout waits for it, and gives up when it has waited long enough.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONFIDENCE = 0.99
"""One-sided. A rollout of four steps asks some hundred times; a healthy candidate should hardly ever be unlucky."""

_Z = NormalDist().inv_cdf(CONFIDENCE)
"""Deviations of a normal distribution that stand for it."""


class Outcome(StrEnum):
    """What a check says."""

    PASS = "pass"  # noqa: S105  # no password
    HOLD = "hold"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts by upper bound, not cumulative; the last bound is infinite."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]

    @property
    def total(self) -> float:
        """Number of observations."""
        return sum(self.counts)

    def above(self, bound: float) -> float:
        """Observations surely beyond a bound: those of the buckets that begin at or above it."""
        return sum(self.counts[bisect.bisect_left(self.bounds, bound) + 1 :])

    def quantile(self, share: float) -> float:
        """Upper bound of the bucket that holds the quantile; NaN without observations."""
        rank, seen = share * self.total, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            seen += count
            if count and seen >= rank:
                return bound
        return math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was measured of one release over a window. None is what could not be measured."""

    requests: float | None = None
    errors: float | None = None
    """Of the requests those that failed, as their callers saw it."""
    latency: Histogram | None = None
    """Seconds."""
    scores: Histogram | None = None
    """Of classifiers, from 0 to 1; None also of models that give none."""
    compared: float | None = None
    """Rows that it and the live release have both answered."""
    differing: float | None = None
    """Of these the ones with another answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How good a candidate has to be."""

    error_rate: float = 0.01
    """Share of requests that may fail; the live release's own share where that is larger."""
    p99_seconds: float | None = None
    """Promise to callers; without one the live release's p99 is the measure."""
    slowdown: float = 1.5
    """Of the live release's p99, where there is no promise."""
    slow_share: float = 0.02
    """Share of requests that may be slower: one in a hundred is promised, and a histogram is coarse."""
    drift: float = 0.25
    """Population stability index of the scores, above which they are another distribution."""
    disagreement: float = 0.05
    """Share of compared rows that may differ."""
    least_requests: int = 50
    """Of the candidate, below which nothing passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question and its answer."""

    name: str
    outcome: Outcome
    value: float | None
    """What was measured; None where nothing was."""
    bound: float | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All checks of one look."""

    checks: tuple[Check, ...]
    requests: float = field(default=0.0)
    """Of the candidate, in the window."""

    @property
    def outcome(self) -> Outcome:
        """The worst of the checks; `hold` where there is none."""
        for outcome in (Outcome.FAIL, Outcome.HOLD):
            if any(check.outcome is outcome for check in self.checks):
                return outcome
        return Outcome.PASS if self.checks else Outcome.HOLD

    @property
    def reasons(self) -> str:
        """Why it is not `pass`."""
        return "; ".join(f"{c.name}: {c.note}" for c in self.checks if c.outcome is self.outcome)


def judge(live: Sample, candidate: Sample, bounds: Bounds, *, scored: bool, compared: bool) -> Verdict:
    """Every check. `scored`: the model gives scores; `compared`: the candidate is the shadow, and is compared."""
    checks = [_errors(live, candidate, bounds), _latency(live, candidate, bounds)]
    if scored:
        checks.append(_drift(live, candidate, bounds))
    if compared:
        checks.append(_agreement(candidate, bounds))
    return Verdict(checks=tuple(checks), requests=candidate.requests or 0.0)


def _errors(live: Sample, candidate: Sample, bounds: Bounds) -> Check:
    name = "error rate"
    if candidate.requests is None or candidate.errors is None:
        return _missing(name, bounds.error_rate)
    usual = live.errors / live.requests if live.requests and live.errors is not None else 0.0
    # A live release that fails more than it should does not make the candidate worse.
    bound = max(bounds.error_rate, usual)
    return _share(name, candidate.errors, candidate.requests, bound, bounds)


def _latency(live: Sample, candidate: Sample, bounds: Bounds) -> Check:
    name = "p99 latency"
    promised = bounds.p99_seconds
    if candidate.latency is None or (promised is None and live.latency is None):
        return _missing(name, promised)
    if promised is None:
        usual = live.latency.quantile(0.99) if live.latency else math.nan
        if math.isnan(usual) or math.isinf(usual):
            return _missing(name, None, "the live release's is not known")
        promised = usual * bounds.slowdown
    slow = _share(name, candidate.latency.above(promised), candidate.latency.total, bounds.slow_share, bounds)
    return Check(
        name=name,
        outcome=slow.outcome,
        value=candidate.latency.quantile(0.99),
        bound=promised,
        note=f"slower than {promised * 1e3:.0f} ms: {slow.note}",
    )


def _drift(live: Sample, candidate: Sample, bounds: Bounds) -> Check:
    name = "score drift"
    ours, theirs = candidate.scores, live.scores
    if ours is None or theirs is None or ours.bounds != theirs.bounds:
        return _missing(name, bounds.drift)
    if min(ours.total, theirs.total) < bounds.least_requests:
        return _too_few(name, min(ours.total, theirs.total), bounds, bounds.drift)
    # Two samples of one distribution differ too: by so much in the mean, and some deviations more.
    freedom = max(1, sum(1 for a, b in zip(ours.counts, theirs.counts, strict=True) if a or b) - 1)
    sampling = (freedom + _Z * math.sqrt(2 * freedom)) * (1 / ours.total + 1 / theirs.total)
    value = stability_index(theirs.counts, ours.counts)
    outcome = (
        Outcome.FAIL if value > bounds.drift + sampling else Outcome.PASS if value <= bounds.drift else Outcome.HOLD
    )
    note = f"index {value:.3f} over {ours.total:.0f} rows, at most {bounds.drift:g}"
    return Check(name=name, outcome=outcome, value=value, bound=bounds.drift, note=note)


def _agreement(candidate: Sample, bounds: Bounds) -> Check:
    name = "shadow agreement"
    if candidate.compared is None or candidate.differing is None:
        return _missing(name, bounds.disagreement)
    return _share(name, candidate.differing, candidate.compared, bounds.disagreement, bounds)


def _share(name: str, count: float, of: float, bound: float, bounds: Bounds) -> Check:
    """Whether `count` of `of` are a share within the bound."""
    if of <= 0:
        return _missing(name, bound)
    note = f"{count:.0f} of {of:.0f} ({count / of:.2%}), at most {bound:.2%}"
    if chance(round(count), round(of), bound) <= 1 - CONFIDENCE:
        outcome = Outcome.FAIL
    elif of < bounds.least_requests:
        return _too_few(name, of, bounds, bound)
    else:
        outcome = Outcome.PASS if count / of <= bound else Outcome.HOLD
    return Check(name=name, outcome=outcome, value=count / of, bound=bound, note=note)


def _missing(name: str, bound: float | None, note: str = "not measured") -> Check:
    return Check(name=name, outcome=Outcome.HOLD, value=None, bound=bound, note=note)


def _too_few(name: str, seen: float, bounds: Bounds, bound: float) -> Check:
    return _missing(name, bound, f"{seen:.0f} measured, at least {bounds.least_requests} are needed")


def chance(count: int, of: int, share: float) -> float:
    """How likely `count` or more of `of` are where each is one with that probability: the binomial's upper tail."""
    if count <= of * share:
        return 1.0  # no less than one half, and nobody asks closer
    if not 0 < share < 1:
        return 0.0 if share <= 0 else 1.0
    term = math.exp(
        math.lgamma(of + 1) - math.lgamma(count + 1) - math.lgamma(of - count + 1)
        + count * math.log(share) + (of - count) * math.log1p(-share)
    )  # fmt: skip
    total = 0.0
    # Beyond the mean each term is smaller than the one before.
    for at in range(count, of + 1):
        total += term
        if term < total * 1e-12:
            break
        term *= (of - at) / (at + 1) * share / (1 - share)
    return min(1.0, total)


def stability_index(expected: Sequence[float], found: Sequence[float]) -> float:
    """Population stability index of two histograms over the same bounds; a half stands for an empty bucket."""
    pairs = [(a or 0.5, b or 0.5) for a, b in zip(expected, found, strict=True) if a or b]
    total_a, total_b = (sum(pair[side] for pair in pairs) for side in (0, 1))
    return sum((b / total_b - a / total_a) * math.log((b / total_b) / (a / total_a)) for a, b in pairs)


def histogram(cumulative: Mapping[float, float]) -> Histogram:
    """Prometheus' buckets, cumulative by upper bound, as counts of their own."""
    bounds = tuple(sorted(cumulative))
    seen = [cumulative[bound] for bound in bounds]
    counts = tuple(max(0.0, b - a) for a, b in zip([0.0, *seen], seen, strict=False))
    return Histogram(bounds=bounds, counts=counts)
