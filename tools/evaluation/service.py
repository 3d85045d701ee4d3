"""The service of this repository on an artifact, as a release would run it, on this machine's loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from infra.registry.client import TOKEN
from services.contract import Env, Route
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

RELEASE = "evaluation"
"""Release that the service's metrics are labelled with."""

START_SECONDS = 180.0
"""Bound for a model to be loaded, on a machine that is busy with other things."""

STOP_SECONDS = 30.0
"""Bound for the process to end; the service drains for 25 s at most."""

KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", TOKEN)
"""Variables of this process that the service gets: a release asks MLflow itself, and this one asks the gateway. All
others are those that a release has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What to serve."""

    name: str
    uri: str
    version: str
    digest: str
    tracking_uri: str
    cache: Path
    settings: Mapping[str, str]
    """What the release sets of its own; what a release may not set is not among it."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service that answers."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Its base address."""
        return f"http://127.0.0.1:{self.port}"

    def peak_bytes(self) -> int:
        """The most memory that the process has had resident so far."""
        with open(f"/proc/{self.process.pid}/status") as status:  # noqa: PTH123
            line = next(line for line in status if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024


@contextmanager
def serving(served: Served) -> Iterator[Service]:
    """Start the service, wait until it is ready, end it whatever happens. `StepError` with what it said."""
    out, err = served.cache / "stdout", served.cache / "stderr"
    with out.open("wb") as output, err.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.inference.main"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=environment(served),
            start_new_session=True,  # an interrupt is for this process to hear, and to end the service
        )
    try:
        yield Service(_ready(process, out, err), process)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environment(served: Served) -> dict[str, str]:
    """Variables of the process: those of the container of a release, on loopback and ports of the system's choice."""
    contract = {
        Env.TORCH_THREADS: "1",
        **served.settings,
        Env.MODEL_NAME: served.name,
        Env.MODEL_URI: served.uri,
        Env.MODEL_DIGEST: served.digest,
        Env.MODEL_VERSION: served.version,
        Env.RELEASE: RELEASE,
        Env.CACHE_DIR: str(served.cache),
        Env.MLFLOW_TRACKING_URI: served.tracking_uri,
        Env.MLFLOW_DIRECT_DOWNLOAD: "false",
        Env.HTTP_HOST: "127.0.0.1",
        Env.HTTP_PORT: "0",
        Env.GRPC_PORT: "0",
        Env.TERMINATION_LOG: str(served.cache / "termination-log"),
    }
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**kept, **{str(name): value for name, value in contract.items()}}


def _ready(process: subprocess.Popen[bytes], out: Path, err: Path) -> int:
    """The port, once the model is loaded."""
    deadline = time.monotonic() + START_SECONDS
    port = 0
    while time.monotonic() < deadline and process.poll() is None:
        port = port or _port(out)
        if port and _answers(port):
            return port
        time.sleep(0.1)
    said = err.read_text(errors="replace").strip() or out.read_text(errors="replace").strip()[-1000:]
    state = "does not get ready" if process.poll() is None else f"ended with code {process.returncode}"
    raise StepError(f"the inference service {state}: {said} → it serves the artifact → mend the model or its settings")


def _port(out: Path) -> int:
    for line in out.read_text(errors="replace").splitlines():
        if line.startswith("{") and line.endswith("}"):
            event = json.loads(line)
            if event.get("event") == "listening":
                return int(event["port"])
    return 0


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{Route.READY}", timeout=5).is_success
    except httpx.TransportError:
        return False
