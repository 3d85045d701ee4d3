"""What a run has measured, on disk after every step: an interrupted run keeps what it has."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from importlib.metadata import PathDistribution, version
from pathlib import Path
from typing import Any, Self

from bench.environments import ROOT, site_packages
from bench.goals import Goal
from bench.measurement import Measurement
from bench.servers import OURS, SERVERS


@dataclass(kw_only=True)
class Record:
    """A whole run."""

    path: Path
    command: str
    started: str
    """UTC, ISO 8601."""
    settings: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]
    measurements: list[Measurement] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    """`server workload` → why it has no figures."""
    goals: list[Goal] = field(default_factory=list)

    def write(self) -> None:
        """Whole or not at all."""
        content = asdict(self)
        del content["path"]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(".part")
        scratch.write_text(json.dumps(content, indent=1) + "\n")
        scratch.replace(self.path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """A record that `write` has written."""
        content = json.loads(path.read_text())
        content["measurements"] = [Measurement(**each) for each in content["measurements"]]
        content["goals"] = [Goal(**each) for each in content["goals"]]
        return cls(path=path, **content)


def machine() -> dict[str, Any]:
    """Processor, cores, memory, kernel."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "gpu": "unmeasured here",
    }


def versions(names: list[str], source: str) -> dict[str, str]:
    """Of the interpreter, the libraries that all share, our source, and each server."""
    found = {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "scikit-learn", "numpy")},
    }
    for name in names:
        server = SERVERS[name]
        if name == OURS:
            found[name] = source
        elif server.package:
            found[name] = _installed(server.package, server.environment)
    wrk = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    found["wrk"] = (wrk.stdout + wrk.stderr).split(" [")[0].removeprefix("wrk ").strip()
    return found


def commit_of(source: Path | None) -> str:
    """Which source was measured: a commit, or a directory of the caller's."""
    if source is not None:
        return str(source)
    head = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return head.stdout.strip()


def _installed(package: str, environment: str) -> str:
    if not environment:
        return version(package)
    stem = package.replace("-", "_").lower()
    for path in site_packages(environment).glob("*.dist-info"):
        if path.name.lower().startswith(f"{stem}-"):
            return PathDistribution(path).version
    return "?"
