"""The cluster's cgroup: it names every process of the cluster, whatever became of its parents."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from tools.steps import StepError

SYSTEM = "system"
"""Child cgroup of the control plane; pods have `kubepods` beside it."""

REMOVAL_SECONDS = 20.0
"""Killed processes leave their cgroup once the kernel has freed their memory."""


def _hierarchies() -> list[Path]:
    """Mount points of cgroup v1 controllers and of cgroup v2."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.split()[0] in {"cgroup", "cgroup2"}:
            points.append(Path(fields.split()[4]))
    return points


def join(cgroup: str) -> None:
    """Create `cgroup` in every hierarchy and move this process into its `system` child."""
    for root in _hierarchies():
        for directory in (root / cgroup, root / cgroup / SYSTEM):
            directory.mkdir(exist_ok=True)
            # cgroup v1: a new cpuset has no CPU and accepts no process until it is given its parent's.
            for name in ("cpuset.cpus", "cpuset.mems"):
                inherited = directory.parent / name
                if inherited.exists() and (root / "cgroup.clone_children").exists():
                    (directory / name).write_text(inherited.read_text())
        # cgroup v2: controllers reach a child only where its parent hands them down.
        controllers = root / "cgroup.controllers"
        if controllers.exists():
            enable = " ".join(f"+{name}" for name in controllers.read_text().split())
            for directory in (root, root / cgroup):
                with contextlib.suppress(OSError):
                    (directory / "cgroup.subtree_control").write_text(enable)
        (root / cgroup / SYSTEM / "cgroup.procs").write_text(str(os.getpid()))


def processes(cgroup: str) -> set[int]:
    """Process ids, as this process sees them, in `cgroup` and below it."""
    found = set()
    for root in _hierarchies():
        for path in (root / cgroup).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):  # a cgroup that went away meanwhile
                found |= {int(pid) for pid in path.read_text().split()}
    found.discard(0)  # processes of another pid namespace
    return found


def remove(cgroup: str) -> None:
    """Kill what is left in `cgroup` and remove it from every hierarchy; `StepError` where a process will not die."""
    deadline = time.monotonic() + REMOVAL_SECONDS
    while remaining := [root / cgroup for root in _hierarchies() if (root / cgroup).exists()]:
        for pid in processes(cgroup):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for top in remaining:
            for directory in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
                with contextlib.suppress(OSError):
                    directory.rmdir()
            with contextlib.suppress(OSError):
                top.rmdir()
        if time.monotonic() > deadline:
            raise StepError(
                f"cgroup {cgroup}: processes {sorted(processes(cgroup))} do not end → a "
                "cluster that is down has none → "
                "look at them with `ps -o pid,stat,wchan,args -p …`; in state D they wait for a disk or network mount"
            )
        time.sleep(0.05)
