"""Child processes that never outlive the run, and what they cost.

Everything is ended by its id: the process group first, then whatever has left the group. For that the
harness is the reaper of its orphans: whoever loses its parent becomes our child, and is found.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STOP_SECONDS = 15.0
"""How long a server may take to end by itself; Ray takes ten."""
TICKS = os.sysconf("SC_CLK_TCK")
_PR_SET_CHILD_SUBREAPER = 36
_LOG_TAIL = 2000
"""Characters of a failed process's log worth showing."""


class BenchError(Exception):
    """Something in the bench cannot go on; the message says what to do."""


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise BenchError(f"prctl: {os.strerror(ctypes.get_errno())} → children must be found again → run on Linux")


def on_cores(cores: str, command: Sequence[str]) -> list[str]:
    """The command, bound to a list of cores as taskset writes it: `0`, `0-3`, `1,3`."""
    return ["taskset", "-c", cores, *command]


def parse_cores(cores: str) -> tuple[int, ...]:
    """`0,2-3` → (0, 2, 3)."""
    found: list[int] = []
    for part in cores.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


class Process:
    """A child in a session of its own, its output in a file."""

    def __init__(self, command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "log"
        self._before = descendants(os.getpid())
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=environment,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Id of the process, and of its group."""
        return self._child.pid

    def alive(self) -> bool:
        """Whether it runs."""
        return self._child.poll() is None

    def tail(self) -> str:
        """The end of what it said."""
        return self.log.read_text(errors="replace")[-_LOG_TAIL:].strip()

    def all(self) -> set[int]:
        """Ids of the process and all that it has started."""
        return descendants(os.getpid()) - self._before

    def stop(self) -> None:
        """End it: (1) ask, (2) end its group, (3) end what has left the group; (4) none is left."""
        known = self.all()
        if self.alive():
            self._child.terminate()  # 1
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(STOP_SECONDS)
        _kill_group(self.pid)  # 2
        self._child.wait()
        deadline = time.monotonic() + STOP_SECONDS
        while left := (known & descendants(os.getpid())) | self.all():  # 3
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            _reap()
            if time.monotonic() > deadline:
                raise BenchError(f"processes {sorted(left)} do not end → none may outlive the run → end them")  # 4
            time.sleep(0.02)
        _reap()


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _reap() -> None:
    """Take the orphans that have ended; with no other child alive it takes none that somebody waits for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def descendants(root: int) -> set[int]:
    """Ids of all processes below one, zombies left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) and fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: set[int] = set()
    waiting = [root]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            found.add(child)
            waiting.append(child)
    return found


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on; the name before them may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def cpu_seconds(pids: set[int]) -> float:
    """Processor time that processes and their ended children have taken."""
    fields = [_stat(pid) for pid in pids]
    return sum(sum(map(int, each[11:15])) for each in fields if each) / TICKS


@dataclass(frozen=True, slots=True)
class Busy:
    """Seconds that processes of this machine have run on some cores, and that its host has taken away."""

    processes: float
    stolen: float

    @classmethod
    def of(cls, cores: tuple[int, ...]) -> Self:
        """Now, since the start of the machine. Interrupts are left out: no process is charged for them."""
        processes = stolen = 0
        for line in Path("/proc/stat").read_text().splitlines():
            name, *values = line.split()
            if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
                user, nice, system, _idle, _wait, _irq, _softirq, steal = map(int, values[:8])
                processes += user + nice + system
                stolen += steal
        return cls(processes / TICKS, stolen / TICKS)
