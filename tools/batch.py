"""Batch jobs by hand: the process of a CronJob's pod on this machine, once or for every day of a span."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.contract import BATCH_MODULE, Env
from tools import paths
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DATE = "{date}"

MOST_DAYS = 3660
"""Of one backfill: ten years. More is a slip of the keyboard."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run and how it ended."""

    day: date | None
    code: int
    summary: Mapping[str, Any] | None
    """What it told on standard output; None where it failed."""


def days(first: date, last: date) -> list[date]:
    """Every day of a span, both ends included."""
    if last < first:
        raise StepError(f"--to {last}: before --from {first} → a span of days → swap them")
    count = (last - first).days + 1
    if count > MOST_DAYS:
        raise StepError(f"--from {first} --to {last}: {count} days → at most {MOST_DAYS} at once → shorten the span")
    return [first + timedelta(days=number) for number in range(count)]


def check_dated(where: Sequence[str], chosen: Sequence[date]) -> None:
    """A day that the addresses do not name would score the same table again and again."""
    if chosen and DATE not in where[1]:
        raise StepError(f"{where[1]}: no {DATE} in it → each day has an output of its own → write {DATE} where it goes")


def run(settings: Mapping[str, str], chosen: Sequence[date]) -> Iterator[Run]:
    """Run the job for each day, or once without any; one that fails does not keep the next from its turn.

    Progress and errors go to this process's standard error. `settings` are variables of `services.contract`.
    """
    for day in chosen or (None,):
        dated: dict[str, str] = {} if day is None else {Env.BATCH_DAY: day.isoformat()}
        done = subprocess.run(
            [sys.executable, "-m", BATCH_MODULE],
            env={**os.environ, **_defaults(), **settings, **dated},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            cwd=Path.cwd(),
        )
        yield Run(day=day, code=done.returncode, summary=json.loads(done.stdout) if done.returncode == 0 else None)


def _defaults() -> dict[str, str]:
    cache = paths.cache() / "batch"
    cache.mkdir(parents=True, exist_ok=True)
    return {
        # The checkout's own service, from whichever directory the command is given in.
        "PYTHONPATH": str(paths.PROJECT),
        Env.CACHE_DIR: str(cache),
        Env.TORCH_THREADS: str(max(1, (os.cpu_count() or 1) - 1)),
        Env.LOG_LEVEL: "warning",
        Env.TERMINATION_LOG: os.devnull,
    }
