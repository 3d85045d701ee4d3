"""Whether the service's memory stays flat: `python -m bench.soak [--requests N] [--swaps N]`.

1. two models of workload C are served, one asked all the time, one for the swaps
2. requests until their memory has settled: that is the level
3. the rest of the requests; meanwhile the other model is unloaded and loaded again, over and over
4. memory is read after each part, and must end within `GROWTH_BYTES` of the level

Exits with 1 where memory grew, a request failed or a model could not be loaded.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml

from bench import load
from bench.environments import cache
from bench.processes import BenchError, Process, adopt_orphans
from bench.protocols import V2_BINARY, V2_JSON
from bench.servers import base_environment
from bench.workloads import artifact, build, is_built
from services.contract import Env

PARTS = 10
GROWTH_BYTES = 16 * 1024 * 1024
"""What two readings of a process that is at rest differ by; a leak of 40 bytes a request would be more."""
TOKEN = "soak-" * 4
CONNECTIONS = 16
SWAPPED = "swapped"


def main() -> int:
    """Run it; the result is the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--requests", type=int, default=500_000, help="default %(default)s")
    parser.add_argument("--swaps", type=int, default=200, help="default %(default)s")
    options = parser.parse_args()
    adopt_orphans()
    files = artifact("C", cache())
    if not is_built("C", cache()):
        build("C", files)
    with tempfile.TemporaryDirectory(prefix="slipway-soak-") as scratch:
        return soak(files, Path(scratch), options.requests, options.swaps)


def soak(files: Path, scratch: Path, requests: int, swaps: int) -> int:
    """Serve, ask and swap."""
    bundle = files / "bundle"
    models = [{"name": "bench", "uri": str(bundle), "pinned": True}, {"name": SWAPPED, "uri": str(bundle)}]
    (scratch / "models.yaml").write_text(yaml.safe_dump({"models": models}))
    inputs = np.load(files / "inputs.npy")
    messages = [V2_BINARY.ask(inputs[:1], 0), V2_JSON.ask(inputs[:1], 0)]
    with Process([sys.executable, "-m", "services.inference.main"], scratch, _environment(scratch)) as server:
        port = _port(server)
        target = load.Target(port=port, cores="0-1", scratch=scratch)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/v2/repository/models/", timeout=60) as client:
            client.headers["authorization"] = f"Bearer {TOKEN}"
            _ask(target, messages, requests // PARTS)
            _swap(client, max(1, swaps // PARTS))
            level = _resident(server)
            print(f"settled at {level / 1e6:.1f} MB after {requests // PARTS:,} requests", flush=True)
            asked, swapped = requests // PARTS, max(1, swaps // PARTS)
            now = level
            while asked < requests or swapped < swaps:
                asked += _ask(target, messages, requests // PARTS)
                more = min(swaps - swapped, max(1, swaps // PARTS))
                _swap(client, more)
                swapped += more
                now = _resident(server)
                print(
                    f"{asked:>9,} requests, {swapped:>4} swaps: {now / 1e6:7.1f} MB, {(now - level) / 1e6:+.1f}",
                    flush=True,
                )
    flat = now - level <= GROWTH_BYTES
    verdict = "is flat" if flat else "GREW"
    print(f"memory {verdict}: {(now - level) / 1e6:+.1f} MB over {asked:,} requests and {swapped} swaps")
    return 0 if flat else 1


def _environment(scratch: Path) -> dict[str, str]:
    settings: dict[Env, Any] = {
        Env.MODELS_FILE: scratch / "models.yaml",
        Env.CACHE_DIR: scratch / "cache",
        Env.HTTP_HOST: "127.0.0.1",
        Env.HTTP_PORT: 0,
        Env.GRPC_PORT: 0,
        Env.REPOSITORY_TOKEN: TOKEN,
    }
    root = str(Path(__file__).parents[1])
    return base_environment() | {str(key): str(value) for key, value in settings.items()} | {"PYTHONPATH": root}


def _port(server: Process) -> int:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.alive():
        events = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
        port = next((event["port"] for event in events if event["event"] == "listening"), None)
        if port is not None and any(event["event"] == "ready" for event in events):
            return int(port)
        time.sleep(0.1)
    raise BenchError(f"the service does not start:\n{server.tail()}")


def _ask(target: load.Target, messages: list[Any], count: int) -> int:
    """At least so many requests; the result is how many."""
    asked = 0
    while asked < count:
        for message in messages:
            seconds = 2
            found = load.wrk(target, message, CONNECTIONS, seconds)
            if found.refused or found.broken:
                raise BenchError(f"{found.refused} requests refused, {found.broken} broken → none fails → see the log")
            asked += round(found.requests_per_second * seconds)
    return asked


def _swap(client: httpx.Client, count: int) -> None:
    for _ in range(count):
        for action in ("unload", "load"):
            answer = client.post(f"{SWAPPED}/{action}")
            if not answer.is_success:
                raise BenchError(f"{action}: {answer.status_code} {answer.text[:200]}")


def _resident(server: Process) -> int:
    """Bytes of the process, after the collector's and the C library's leftovers have been given back by a swap."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
