"""How far a job is, on standard error: a bar on a terminal, elsewhere a line every 20 seconds."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from collections.abc import Callable

LINE_SECONDS = 20.0
"""Between two lines of a job that nobody watches: a log of hours stays short."""


class Progress:
    """Counts rows by part, so that a part that is tried again does not count twice. Safe on any thread."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._lock = threading.Lock()
        self._of: dict[int, int] = {}
        self._total = self._before = 0
        self._started = self._told = clock()
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, total: int) -> None:
        """So many rows there are; what is set before `start` was done by earlier runs."""
        self._total = total
        self._of.clear()

    def start(self) -> None:
        """Rows are scored from now on."""
        self._before = self.rows
        self._started = self._told = self._clock()
        if self._stream.isatty() and self._bar is None:
            columns = (TextColumn("{task.fields[rate]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, console=Console(file=self._stream))
            self._bar.add_task("rows", total=self._total, completed=self._before, rate="")
            self._bar.start()

    @property
    def rows(self) -> int:
        """Rows done."""
        return sum(self._of.values())

    @property
    def rate(self) -> float:
        """Rows a second of this run."""
        return (self.rows - self._before) / max(self._clock() - self._started, 1e-9)

    def set(self, part: int, rows: int) -> None:
        """So many of a part are done."""
        with self._lock:
            self._of[part] = rows
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], completed=self.rows, rate=f"{self.rate:,.0f} rows/s")
            elif self._clock() - self._told >= LINE_SECONDS:
                self._told = self._clock()
                left = (self._total - self.rows) / self.rate if self.rate else float("inf")
                share = self.rows / self._total if self._total else 1
                line = (
                    f"{self.rows:,} of {self._total:,} rows ({share:.0%}), {self.rate:,.0f} rows/s, {left:,.0f} s left"
                )
                print(line, file=self._stream, flush=True)
