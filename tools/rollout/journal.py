"""What a rollout is about to do, on disk before it does it: whoever comes after a kill knows where it was."""

from __future__ import annotations

import contextlib
import fcntl
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tools import paths
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """One rollout of one model in one stack."""

    model: str
    stack: str
    candidate: str
    before: dict[str, int]
    """Traffic when it began, and again when it is given up."""
    steps: tuple[int, ...]
    """Percent for the candidate, ascending."""
    bake_seconds: float
    at: int = 0
    """Index of the step that is being made or baked."""
    reverting: str = ""
    """Why it is given up; empty while it goes on."""
    started: str
    """UTC."""
    looks: list[dict[str, Any]] = field(default_factory=list)
    """Verdicts, oldest first."""

    def traffic(self) -> dict[str, int]:
        """What callers shall get now."""
        if self.reverting:
            return self.before
        return shifted(self.before, self.candidate, self.steps[self.at])

    @property
    def told(self) -> str:
        """What is under way, for people."""
        at = "giving up" if self.reverting else f"at {self.steps[self.at]}%"
        return f"the rollout of {self.candidate} that began {self.started}, {at}"

    def next(self) -> Journal:
        """At the next step."""
        return replace(self, at=self.at + 1)


def shifted(before: dict[str, int], candidate: str, percent: int) -> dict[str, int]:
    """The candidate at that many percent; the others share the rest as they did before.

    Whole percents, summing to 100: what rounding leaves goes to the largest fractions.
    """
    others = {release: weight for release, weight in before.items() if release != candidate and weight}
    rest, total = 100 - percent, sum(others.values())
    if total == 0:
        if rest:
            raise StepError(f"{candidate}: has all the traffic → a rollout moves it there → nothing is left to do")
        return {candidate: 100}
    exact = {release: rest * weight / total for release, weight in others.items()}
    found = {release: int(share) for release, share in exact.items()}
    short = rest - sum(found.values())
    for release in sorted(exact, key=lambda each: (found[each] - exact[each], each))[:short]:
        found[release] += 1
    return {release: weight for release, weight in {**found, candidate: percent}.items() if weight}


def path_of(directory: Path, stack: str, model: str) -> Path:
    """Where the journal of an unfinished rollout is."""
    return directory / f"{stack}.{model}.json"


def write(path: Path, journal: Journal) -> None:
    """Put it down, whole."""
    paths.write_whole(path, (json.dumps(asdict(journal), indent=1) + "\n").encode())


def read(path: Path) -> Journal | None:
    """The unfinished rollout, None where there is none."""
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    return Journal(**{**content, "steps": tuple(content["steps"])})


@contextlib.contextmanager
def alone(directory: Path, stack: str) -> Iterator[None]:
    """One command at a time moves a stack's traffic from this machine. Ends with the process, however that ends."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / f"{stack}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StepError(
                f"stack {stack}: another rollout command is at work → one at a time → wait for it, or end it"
            ) from None
        yield
