"""Virtual environments of the peers, and the load generators: made on demand, kept, never while measuring."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.processes import BenchError

HERE = Path(__file__).parent
ROOT = HERE.parent

_DONE = "requirements.txt"
"""Copied into an environment when all of it is installed: what it holds, and that it is whole."""

DEBIAN = {"wrk": "wrk", "taskset": "util-linux"}
"""Programs that Debian brings."""
_B64 = Path("/usr/lib/x86_64-linux-gnu/libb64.so.0d")


def cache_root() -> Path:
    """The cache that all of Slipway's commands share."""
    base = os.environ.get("SLIPWAY_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "slipway"


def cache() -> Path:
    """The bench's part of it."""
    return cache_root() / "bench"


def python_of(environment: str) -> Path:
    """The interpreter of a peer's environment, or of the project's for an empty name."""
    return cache() / "venvs" / environment / "bin" / "python" if environment else Path(sys.executable)


def site_packages(environment: str) -> Path:
    """Where an environment's packages are."""
    return python_of(environment).parent.parent / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"


def base_python() -> Path:
    """The interpreter that the project's own environment was made from: peers run the same."""
    return Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"


def requirements_of(environment: str) -> Path:
    """The pinned list of an environment."""
    if environment == "perf_analyzer":
        return HERE / "generator" / _DONE
    folder = "streams" if (HERE / "streams" / environment).is_dir() else "peers"
    return HERE / folder / environment / _DONE


def is_ready(environment: str) -> bool:
    """Whether it holds what its list says, for the interpreter of the project's own environment."""
    made = cache() / "venvs" / environment
    return (
        (made / _DONE).is_file()
        and (made / _DONE).read_text() == requirements_of(environment).read_text()
        and (made / "bin" / "python").resolve() == base_python().resolve()
    )


def ensure(environment: str) -> None:
    """Make an environment unless it is there; what an interrupted run has fetched is not fetched again."""
    if is_ready(environment):
        return
    uv = next(iter(sorted(cache_root().glob("uv-*/bin/uv"), reverse=True)), None) or shutil.which("uv")
    if uv is None:
        raise BenchError("there is no uv → it makes the peers' environments → run `make setup`")
    wanted = requirements_of(environment)
    target = cache() / "venvs" / environment
    started = time.monotonic()
    print(f"▸ {environment}: {len(wanted.read_text().splitlines())} packages (torch alone has 5 GB, once)", flush=True)
    settings = {"UV_CACHE_DIR": str(cache_root() / "uv"), "UV_PYTHON_DOWNLOADS": "never", "UV_LINK_MODE": "hardlink"}
    for command in (
        ["venv", "--clear", "--python", str(base_python()), str(target)],
        ["pip", "sync", "--python", str(target / "bin" / "python"), str(wanted)],
    ):
        # Its own progress bars go to this terminal.
        if subprocess.run([str(uv), *command], env={**os.environ, **settings}, check=False).returncode != 0:
            raise BenchError(f"{environment}: uv {command[0]} failed → see above → run the same command again")
    shutil.copyfile(wanted, target / _DONE)
    print(f"✓ {environment} {time.monotonic() - started:.0f} s", flush=True)


def require_programs() -> None:
    """The programs that no Python environment brings."""
    missing = [package for program, package in DEBIAN.items() if shutil.which(program) is None]
    if missing:
        raise BenchError(f"{', '.join(missing)}: not installed → they make the load → apt-get install -y wrk")


def perf_analyzer() -> tuple[str, dict[str, str]] | None:
    """Triton's own load generator and what it needs in its environment; None where it cannot run."""
    if not is_ready("perf_analyzer") or not _B64.exists():
        return None
    libraries = site_packages("perf_analyzer") / "nvidia" / "cuda_runtime" / "lib"
    return str(python_of("perf_analyzer").parent / "perf_analyzer"), {"LD_LIBRARY_PATH": str(libraries)}
