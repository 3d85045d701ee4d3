"""Rules about the evidence of releases. Verdicts come from figures; what the file itself says of them is not read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from infra.evidence.checklist import ERROR_RATE, Bounds, below_minimum, judge, regressions
from infra.evidence.document import text
from policies.rules.models import Find, Release, gated, live
from policies.rules.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Callable

AHEAD = timedelta(hours=1)
"""How far ahead the clock of the machine that evaluated may be."""

EVALUATE = "`slipway models evaluate NAME/VERSION` on a machine you trust"


def bounds(release: Release) -> Bounds:
    """What a release's figures are held against; the minimum has a rule of its own."""
    slo = release.model.get("slo") or {}
    return Bounds(
        p99_ms=slo.get("p99Ms"),
        error_rate=ERROR_RATE if slo.get("errorRate") is None else float(slo["errorRate"]),
        memory_bytes=release.facts.get("memoryBytes"),
    )


def missing(release: Release) -> list[str]:
    """Nobody has evaluated the version."""
    return [] if release.evidence else ["it has no evidence"]


def tampered(release: Release) -> list[str]:
    """The file is not what was sealed."""
    reason = release.evidence.get("tampered")
    return [f"its evidence was changed: {reason}"] if reason else []


def forged(release: Release) -> list[str]:
    """The signature is nobody's who is believed."""
    if not release.evidence or tampered(release):
        return []
    signer = release.evidence.get("signer")
    if not signer:
        return ["its evidence is not signed by the key that its seal names"]
    believed = release.gate.get("signers") or []
    if believed and signer not in believed:
        return [f"its evidence is signed by {signer}, who is not one of slipway:evidence.signers"]
    return []


def trusted(release: Release) -> bool:
    """Whether the evidence is what somebody who is believed has recorded: only then its content counts."""
    return bool(release.evidence) and not tampered(release) and not forged(release)


def of_another_artifact(release: Release) -> list[str]:
    """What was evaluated is not what would run."""
    if not trusted(release):
        return []
    evaluated, runs = text(release.document, "digest"), release.facts.get("digest")
    return [] if evaluated == runs else [f"its evidence is of artifact {evaluated or 'unknown'}, it would run {runs}"]


def stale(now: Callable[[], datetime]) -> Find:
    """It was evaluated too long ago, or later than now."""

    def find(release: Release) -> list[str]:
        if not trusted(release):
            return []
        said = text(release.document, "evaluatedAt")
        try:
            at = datetime.fromisoformat(said)
            age = now() - at
        except (ValueError, TypeError):  # no time, or one without a zone
            return [f"its evidence is of no known time ({said or 'none'})"]
        if age < -AHEAD:
            return [f"its evidence is of {said}, which is yet to come"]
        most = timedelta(days=float(release.gate.get("maxAgeDays") or 0))
        return [f"its evidence is {age.days} days old, at most {most.days} are allowed"] if age > most else []

    return find


def incomplete(release: Release) -> list[str]:
    """An item of the checklist was not measured, or does not hold."""
    if not trusted(release):
        return []
    return [
        f"{verdict.item}: {verdict.shown}" + (f" ({verdict.bound})" if verdict.bound else "")
        for verdict in judge(release.document, bounds(release))
        if not verdict.passed
    ]


def too_low(release: Release) -> list[str]:
    """A holdout metric is below the stack's minimum."""
    return below_minimum(release.document, release.gate.get("minimum") or {}) if trusted(release) else []


def regressed(release: Release) -> list[str]:
    """It is worse than the live release."""
    other = live(release)
    if other is None or not trusted(release) or not trusted(other):
        return []
    return [
        f"{wrong} ({other.name})"
        for wrong in regressions(release.document, other.document, release.gate.get("regressionMargin") or {})
    ]


VALIDITY: tuple[Find, ...] = (missing, tampered, forged, of_another_artifact, stale(lambda: datetime.now(UTC)))
"""What says whether evidence counts at all."""


def _rule(name: str, description: str, remedy: str, find: Find) -> Rule:
    check, advice = gated(find)
    return Rule(name=name, description=description, remedy=remedy, check=check, advice=advice)


RULES = (
    _rule("evidence-missing", "A release has evidence: what nobody measured, nobody knows.", EVALUATE, missing),
    _rule(
        "evidence-tampered",
        "Evidence is the file that was sealed when the model was evaluated.",
        f"find out who changed it, then {EVALUATE}",
        tampered,
    ),
    _rule(
        "evidence-forged",
        "Evidence is signed by somebody whom the stack believes.",
        f"{EVALUATE}, or add the signer's key to slipway:evidence.signers",
        forged,
    ),
    _rule("evidence-other-artifact", "Evidence is of the artifact that would run.", EVALUATE, of_another_artifact),
    _rule(
        "evidence-stale",
        "Evidence is younger than slipway:evidence.maxAgeDays.",
        EVALUATE,
        VALIDITY[-1],
    ),
    _rule(
        "evidence-checklist",
        "Every item of the pre-deployment checklist was measured and holds against the stack's bounds.",
        "`slipway checklist MODEL -s STACK` says what to do about each",
        incomplete,
    ),
    _rule(
        "evidence-minimum",
        "Holdout metrics reach slipway:evidence.minimum.",
        "train a better model, or lower the key",
        too_low,
    ),
    _rule(
        "evidence-regression",
        "A release is not worse than the live one by more than slipway:evidence.regressionMargin.",
        "train a better model, evaluate both on the same data, or widen the margin",
        regressed,
    ),
)
