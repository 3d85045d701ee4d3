"""Long work, shown: what runs, for how long, of how much, and what to do when it fails."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

HEARTBEAT_SECONDS = 20.0
"""How often a step that takes long says that it is alive, where the output is not a terminal."""

LOG_TAIL_LINES = 15
"""Enough of a failed command's log to see the cause without opening it."""


class StepError(Exception):
    """A step failed. The message names the step, the cause and the remedy."""


def duration(seconds: float) -> str:
    """`75.2` → `1m15s`; under a minute with a tenth."""
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s"


@dataclass
class Steps:
    """Runs named steps one after the other and remembers how long each took.

    `record` is a JSON file that receives the seconds of each step; None keeps no record.
    """

    record: Path | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, name: str, *, estimate: float | None = None) -> Iterator[Step]:
        """One step; `estimate` is its usual length in seconds on two cores, for the person who waits."""
        about = f" (about {duration(estimate)})" if estimate else ""
        _say(f"▸ {name}{about}")
        started = time.monotonic()
        try:
            yield Step(name, started)
        except StepError:
            raise
        except KeyboardInterrupt:
            _say(
                f"✗ {name}: interrupted after {duration(time.monotonic() - started)}; the "
                "same command goes on from here"
            )
            raise
        took = time.monotonic() - started
        _say(f"✓ {name} {duration(took)}")
        self.seconds[name] = round(took, 1)
        if self.record:
            self.record.parent.mkdir(parents=True, exist_ok=True)
            self.record.write_text(json.dumps(self.seconds, indent=2) + "\n")


@dataclass(frozen=True)
class Step:
    """The step under way."""

    name: str
    started: float

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        remedy: str = "read the log, mend the cause and run the same command again",
    ) -> None:
        """Run a command with its output in `log`; raise `StepError` with the log's end where it fails.

        An interrupt ends the command's whole process group before it is passed on.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            output.write(f"\n$ {' '.join(map(str, argv))}\n".encode())
            output.flush()
            try:
                process = subprocess.Popen(
                    [str(part) for part in argv],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    env={**os.environ, **(env or {})},
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise StepError(f"{self.name}: {argv[0]}: not found → a program this step needs → {remedy}") from error
            try:
                self._wait(process)
            except BaseException:
                _end(process)
                raise
        if process.returncode != 0:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
            raise StepError(
                f"{self.name}: `{argv[0]}` exited with {process.returncode} after "
                f"{duration(time.monotonic() - self.started)}\n{tail}\n→ log: {log}\n→ {remedy}"
            )

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        terminal = sys.stderr.isatty()
        while True:
            try:
                process.wait(timeout=1.0 if terminal else HEARTBEAT_SECONDS)
            except subprocess.TimeoutExpired:
                elapsed = duration(time.monotonic() - self.started)
                if terminal:
                    print(f"\r  … {elapsed} ", end="", file=sys.stderr, flush=True)
                else:
                    _say(f"  … {self.name} {elapsed}")
            else:
                if terminal:
                    print("\r\033[K", end="", file=sys.stderr, flush=True)
                return


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            continue
        return


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
