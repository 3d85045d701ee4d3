"""What the cores do while something is measured, and waiting until nobody else uses them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.processes import Busy, cpu_seconds, parse_cores

if TYPE_CHECKING:
    from bench.processes import Process

FOREIGN_SHARE = 0.15
"""Of the cores in use, taken by other processes: above it a figure is taken again."""
QUIET_SECONDS = 0.3
"""How long nobody else must have used the cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Shares of the cores during a measurement; of the server's and the load's side the larger."""

    server: float
    foreign: float
    stolen: float


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters at one moment, in seconds."""

    at: float
    served: float
    ours: Busy
    theirs: Busy


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """The server's cores and the load generator's, as taskset writes them."""

    server: str
    load: str
    patience: float
    """Seconds to wait for others to leave the cores, before each figure."""

    def sample(self, process: Process | None) -> Sample:
        """The counters now."""
        served = cpu_seconds(process.all()) if process else 0.0
        return Sample(time.monotonic(), served, Busy.of(parse_cores(self.server)), Busy.of(parse_cores(self.load)))

    def since(self, before: Sample, process: Process | None, *, served: float = 0.0, loaded: float = 0.0) -> Cost:
        """What has happened since a sample; `served` and `loaded` are processor seconds that children have taken on
        each side and that no process shows any more.
        """
        now = self.sample(process)
        passed = now.at - before.at
        served += now.served - before.served
        ours, theirs = len(parse_cores(self.server)), len(parse_cores(self.load))
        foreign = max(
            (now.ours.processes - before.ours.processes - served) / ours,
            (now.theirs.processes - before.theirs.processes - loaded) / theirs,
        )
        stolen = max((now.ours.stolen - before.ours.stolen) / ours, (now.theirs.stolen - before.theirs.stolen) / theirs)
        shares = [round(max(0.0, each / passed), 3) for each in (served / ours, foreign, stolen)]
        return Cost(server=shares[0], foreign=shares[1], stolen=shares[2])

    def wait_for_quiet(self, process: Process | None) -> None:
        """Until only the server's own processes use the cores, or patience is over."""
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            before = self.sample(process)
            time.sleep(QUIET_SECONDS)
            if self.since(before, process).foreign <= FOREIGN_SHARE:
                return
