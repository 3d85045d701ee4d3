"""A rollout: step by step, each applied, baked and judged; given up by itself where a verdict says so.

State machine, each transition on disk before anything is done:

    step k: applied ── verdict pass after the bake ──► step k+1 … 100% ──► done
       │ fail at any look, or still unknown when patience ends
       └──────────────────────────────────────────► reverting: applied ──► aborted

A run that was killed is taken up where it was: what the journal says is applied again, which does nothing where it had
been done, and the step is baked anew.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from tools.rollout import journal as journals
from tools.rollout.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tools.rollout.journal import Journal


class Stage(Protocol):
    """What a rollout is played on."""

    def apply(self, traffic: dict[str, int], *, at_once: bool = False) -> None:
        """Make this the traffic of file, state and cluster, of the cluster first where it has to be `at_once`; returns
        when the cluster has taken it.
        """

    def look(self, candidate: str, seconds: float) -> Verdict:
        """Judge what the candidate did in the last so many seconds."""

    def seconds(self) -> float:
        """A clock that only goes forward."""

    def wait(self, seconds: float) -> None:
        """Wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often a rollout looks, and how long it waits for what it cannot see yet."""

    look_seconds: float = 5.0
    patience_seconds: float = 120.0
    """After the bake, for a verdict that still says hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How it ended."""

    journal: Journal

    @property
    def completed(self) -> bool:
        """Whether the candidate has all the traffic that it was to get."""
        return not self.journal.reverting


def run(journal: Journal, path: Path, stage: Stage, pace: Pace, tell: Callable[[str], None]) -> Result:
    """Play a rollout to its end, from where its journal is. The journal is gone when traffic is where it shall be."""
    while True:
        journals.write(path, journal)
        stage.apply(journal.traffic(), at_once=bool(journal.reverting))
        if journal.reverting:
            tell(f"given up: {journal.reverting}; traffic is {_shown(journal.traffic())} again")
            break
        tell(f"step {journal.at + 1} of {len(journal.steps)}: {_shown(journal.traffic())}")
        journal, verdict, waited = _bake(journal, path, stage, pace, tell)
        if verdict.outcome is not Outcome.PASS:
            why = (
                verdict.reasons
                if verdict.outcome is Outcome.FAIL
                else f"no verdict in {waited:.0f} s: {verdict.reasons}"
            )
            journal = replace(journal, reverting=f"at {journal.steps[journal.at]}%: {why}")
        elif journal.at + 1 == len(journal.steps):
            tell(f"done: {_shown(journal.traffic())}")
            break
        else:
            journal = journal.next()
    path.unlink()
    return Result(journal=journal)


def _bake(
    journal: Journal, path: Path, stage: Stage, pace: Pace, tell: Callable[[str], None]
) -> tuple[Journal, Verdict, float]:
    """Look until there is a verdict: a failing one at once, a passing one when the step has baked."""
    started = stage.seconds()
    while True:
        stage.wait(min(pace.look_seconds, max(journal.bake_seconds, 0.1)))
        elapsed = stage.seconds() - started
        verdict = stage.look(journal.candidate, elapsed)
        journal = replace(journal, looks=[*journal.looks, _plain(journal, elapsed, verdict)])
        journals.write(path, journal)
        tell(f"  {elapsed:4.0f} s  {verdict.outcome}  {verdict.requests:.0f} requests  {verdict.reasons}")
        baked = elapsed >= journal.bake_seconds
        if (
            verdict.outcome is Outcome.FAIL
            or (baked and verdict.outcome is Outcome.PASS)
            or elapsed >= journal.bake_seconds + pace.patience_seconds
        ):
            return journal, verdict, elapsed


def _plain(journal: Journal, elapsed: float, verdict: Verdict) -> dict[str, Any]:
    return {
        "percent": journal.steps[journal.at],
        "seconds": round(elapsed, 1),
        "outcome": str(verdict.outcome),
        "requests": verdict.requests,
        "checks": [{**asdict(check), "outcome": str(check.outcome)} for check in verdict.checks],
    }


def _shown(traffic: dict[str, int]) -> str:
    return ", ".join(f"{release} {weight}%" for release, weight in traffic.items())


def report(result: Result) -> str:
    """The rollout for people, in Markdown."""
    journal = result.journal
    ending = "completed" if result.completed else f"given up {journal.reverting}"
    lines = [
        f"# Rollout of {journal.model} to {journal.candidate} on stack {journal.stack}: {ending}",
        "",
        f"Began {journal.started} at {_shown(journal.before)}; steps {', '.join(f'{s}%' for s in journal.steps)}, "
        f"{journal.bake_seconds:g} s each; traffic now {_shown(journal.traffic())}.",
        "",
        "| at | after | requests | verdict | why |",
        "|---:|---:|---:|---|---|",
    ]
    for look in journal.looks:
        why = "; ".join(f"{check['name']}: {check['note']}" for check in look["checks"])
        lines.append(
            f"| {look['percent']}% | {look['seconds']:g} s | {look['requests']:.0f} | {look['outcome']} | {why} |"
        )
    return "\n".join(lines) + "\n"
