"""The post-deployment checklist: verdicts on what was seen of a deployed model. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infra.evidence.checklist import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NO_PROMETHEUS = "the stack has no Prometheus"
SEE_PROMETHEUS = "see that it runs and answers at that address"
INSTALL = "deploy a platform with monitoring: its address is the stack's output `prometheus`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Answers that a release must give: those of training."""

    rows: Sequence[Mapping[str, Any]]
    """Features by name."""
    expected: Sequence[float] | None
    """What training answered; None for a model that brings an input example alone."""
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came back through the gateway for a release's golden rows."""

    values: Sequence[float] = ()
    version: str = ""
    """Which version says that it answered."""
    error: str = ""
    """Why nothing came back; empty where something did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """Replicas of a release."""

    ready: int
    wanted: int
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitored:
    """What Prometheus has."""

    series: Mapping[str, float] = field(default_factory=dict)
    """Number of request series by release."""
    alerts: int = 0
    """Alert rules that are loaded."""
    unhealthy: Sequence[str] = ()
    """Those of them that do not evaluate."""
    compared: float | None = None
    """Rows that were compared with a shadow; None where no series says."""
    error: str = ""
    """Why it could not be asked."""


def pods(release: str, seen: Pods) -> Verdict:
    """Every replica of a release is ready."""
    if seen.error:
        return Verdict(
            item=f"pods {release}",
            passed=False,
            shown=seen.error,
            remedy="see that the cluster answers: `kubectl get pods`",
        )
    return Verdict(
        item=f"pods {release}",
        passed=0 < seen.wanted <= seen.ready,
        shown=f"{seen.ready} of {seen.wanted} ready",
        bound="all ready",
        remedy="`kubectl describe pod` and the service's log say why",
    )


def golden(release: str, version: str, wanted: Golden | None, answered: Answered) -> Verdict:
    """A release answers through the gateway as its model did in training."""
    item = f"golden {release}"
    if wanted is None:
        return Verdict(
            item=item,
            passed=False,
            shown="the artifact has neither golden rows nor an input example",
            remedy="register the model with one",
        )
    remedy = "go back to the release before (`slipway rollout rollback`), then find out what differs from training"
    if answered.error:
        return Verdict(item=item, passed=False, shown=answered.error, remedy="see that the release is ready and routed")
    if answered.version != version:
        shown = f"version {answered.version} answers, not {version}"
        return Verdict(item=item, passed=False, shown=shown, remedy=remedy)
    rows = len(wanted.rows)
    if len(answered.values) != rows or rows == 0:
        shown = f"{len(answered.values)} answers to {rows} rows"
        return Verdict(item=item, passed=False, shown=shown, remedy=remedy)
    if wanted.expected is None:
        return Verdict(item=item, passed=True, shown=f"{rows} example rows answered; training's answers are not known")
    differences = [abs(value - right) for value, right in zip(answered.values, wanted.expected, strict=True)]
    worst = next((each for each in differences if math.isnan(each)), max(differences))
    return Verdict(
        item=item,
        passed=worst <= wanted.tolerance,  # what is no number is not
        shown=f"{rows} rows differ by {worst:.2g} from training",
        bound=f"≤ {wanted.tolerance:g}",
        remedy=remedy,
    )


def monitoring(releases: Sequence[str], shadow: str | None, seen: Monitored | None) -> list[Verdict]:
    """Metrics arrive, alerts are loaded, the shadow is compared."""
    items = [*(f"metrics {release}" for release in releases), "alerts", *([f"shadow {shadow}"] if shadow else [])]
    if seen is None or seen.error:
        shown, remedy = (NO_PROMETHEUS, INSTALL) if seen is None else (seen.error, SEE_PROMETHEUS)
        return [Verdict(item=item, passed=False, shown=shown, remedy=remedy) for item in items]
    return [
        *(_metrics(release, seen) for release in releases),
        _alerts(seen),
        *([_shadow(shadow, seen)] if shadow else []),
    ]


def _metrics(release: str, seen: Monitored) -> Verdict:
    series = seen.series.get(release, 0)
    return Verdict(
        item=f"metrics {release}",
        passed=series > 0,
        shown=f"{series:.0f} series of its requests",
        bound="at least one",
        remedy="see that Prometheus scrapes its pods: Status → Targets",
    )


def _alerts(seen: Monitored) -> Verdict:
    broken = f", {', '.join(seen.unhealthy)} do not evaluate" if seen.unhealthy else ""
    return Verdict(
        item="alerts",
        passed=seen.alerts > 0 and not seen.unhealthy,
        shown=f"{seen.alerts} rules loaded{broken}",
        bound="at least one, all evaluate",
        remedy="see Prometheus's log: Status → Rules says what is wrong",
    )


def _shadow(shadow: str, seen: Monitored) -> Verdict:
    return Verdict(
        item=f"shadow {shadow}",
        passed=bool(seen.compared),
        shown="no row was compared" if not seen.compared else f"{seen.compared:.0f} rows compared",
        bound="at least one",
        remedy="send the model requests; if none is compared then, see the service's log",
    )
