"""Open-loop load: requests leave when a Poisson process says so, whatever the server does.

The client is a program of its own (`generator/openloop/main.go`): beside a fast server a client in Python would be what
is measured. It is built once for each state of its source.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bench.environments import HERE, cache
from bench.processes import BenchError

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = HERE / "generator" / "openloop"
DRAIN_SECONDS = 5.0
"""How long the client waits for answers after the last request has left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One run."""

    port: int
    request: str
    """File with the whole HTTP request."""
    rate: float
    """Requests a second, in the mean."""
    seconds: float
    warm_up: float = 1.0
    """Seconds at the same rate that are not counted."""
    seed: int = 1


def as_json(spec: Spec) -> str:
    """What the client reads."""
    return json.dumps(asdict(spec))


def client() -> Path:
    """The client's program; builds it unless it is there."""
    source = b"".join(path.read_bytes() for path in sorted(SOURCE.iterdir()))
    program = cache() / f"openloop-{hashlib.sha256(source).hexdigest()[:16]}"
    if program.exists():
        return program
    go = shutil.which("go")
    if go is None:
        raise BenchError("there is no go → it builds the open-loop client → install Go 1.23 or later")
    program.parent.mkdir(parents=True, exist_ok=True)
    partial = program.with_suffix(".partial")
    built = subprocess.run(
        [go, "build", "-o", str(partial), "."], cwd=SOURCE, capture_output=True, text=True, check=False
    )
    if built.returncode != 0:
        raise BenchError(f"the open-loop client does not build:\n{built.stderr[-2000:]}")
    return partial.rename(program)


def told(command: list[str], timeout: float) -> dict[str, Any]:
    """What the client tells: counts and percentiles in ms by status."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    if done.returncode != 0:
        raise BenchError(f"the open-loop client failed:\n{done.stderr[-1000:]}")
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def percentile(values: list[float], percent: float) -> float:
    """The smallest value that `percent` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * int(percent) // 100) - 1))]
