"""The process: settings → logs → HTTP and gRPC → model → serve → drain.

1. settings are read; a wrong one ends the process with its name
2. the ports open, HTTP's and gRPC's: live at once, ready not yet
3. the model is fetched, verified, loaded and warmed up on a thread
4. ready: the catalog has the pipeline
5. SIGTERM: readiness off, the ports close, accepted requests finish within the grace period

Where 1, 2 or 3 fails the process exits with code 1, with one line on standard error and in the
termination log, which Kubernetes shows as the pod's reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvicorn
import uvloop
from pydantic import ValidationError

from services.contract import Env
from services.inference.adapters.grpc.server import GrpcServer
from services.inference.adapters.grpc.service import InferenceService
from services.inference.adapters.http.app import create_app
from services.inference.adapters.http.counterpart import Counterpart
from services.inference.adapters.http.direct import direct_protocol
from services.inference.adapters.http.exchange import Exchange
from services.inference.adapters.telemetry.accounts import Accounts
from services.inference.adapters.telemetry.metrics import Metrics
from services.inference.adapters.telemetry.prediction_log import PredictionLog
from services.inference.adapters.telemetry.sinks import sink
from services.inference.core.catalog import Catalog, ModelSpec
from services.inference.core.document import first_problem
from services.inference.core.errors import InvalidArtifact, ShuttingDown
from services.inference.core.shadow import Beside, Shadow
from services.inference.logs import configure_logs
from services.inference.runtimes.loader import ArtifactLoader
from services.inference.runtimes.models_file import read_models
from services.inference.runtimes.torch_module import TorchOptions
from services.inference.settings import Settings, prepare_process

if TYPE_CHECKING:
    from types import FrameType

    from services.inference.adapters.telemetry.traces import Traces
    from services.inference.core.pipeline import Mirror

_log = structlog.stdlib.get_logger("slipway.main")

LOG_SECONDS = 10.0
"""What the prediction log has to write what waits when the process ends."""

SWITCH_SECONDS = 0.0005
"""How long a thread waits for Python's lock before it asks for it. Under load the model's thread waits for it a few
times in each batch, by default for 5 ms each."""

KEEP_ALIVE_SECONDS = 75
"""Of an idle connection: longer than the usual load balancers keep theirs, 60 s, or they would ask on one that has just
been closed and answer 502 for it."""

SIGNAL_SECONDS = 0.1
"""Between two looks for a second signal, as uvicorn has it."""


def models(settings: Settings) -> list[ModelSpec]:
    """What to serve: the models file where there is one, else the one model of the settings."""
    if settings.models_file is not None:
        return read_models(settings.models_file)
    if settings.model_name is None or settings.model_uri is None:
        raise AssertionError("settings name a model where they name no file")
    live = ModelSpec(
        name=settings.model_name,
        uri=settings.model_uri,
        digest=settings.model_digest,
        version=settings.model_version,
        pinned=True,
    )
    if settings.shadow_uri is None:
        return [live]
    name = f"{live.name}-shadow"
    return [live, ModelSpec(name=name, uri=settings.shadow_uri, digest=settings.shadow_digest, shadows=live.name)]


def loader(settings: Settings, metrics: Metrics) -> ArtifactLoader:
    """Loads models as the settings say."""
    return ArtifactLoader(
        cache=settings.cache_dir,
        release=settings.release,
        limits=settings.batch_limits(),
        torch=TorchOptions(
            threads=settings.torch_threads,
            device=settings.device,
            precision=settings.precision,
            compile=settings.torch_compile,
        ),
        observer=metrics,
        tracking_uri=settings.mlflow_tracking_uri,
        s3_endpoint_url=settings.s3_endpoint_url,
    )


def prediction_log(settings: Settings, metrics: Metrics, name: str) -> PredictionLog | None:
    """The prediction log, where the settings ask for one. Raises `ValueError` where it cannot be opened."""
    if settings.prediction_log is None:
        return None
    return PredictionLog(
        sink(settings.prediction_log, s3_endpoint_url=settings.s3_endpoint_url, kafka=settings.kafka()),
        metrics,
        model=name,
        share=settings.prediction_log_share,
        redacted=settings.prediction_log_redact,
    )


def shadows_of(settings: Settings, specs: list[ModelSpec], catalog: Catalog, metrics: Metrics) -> list[Shadow]:
    """Models of this process that see another's traffic; and the release whose shadow this process is."""
    found = [Shadow(spec.shadows, Beside(catalog, spec.name), metrics) for spec in specs if spec.shadows is not None]
    if settings.compare_url is not None:
        model = specs[0].name
        counterpart = Counterpart(settings.compare_url, model, share=settings.compare_share)
        found.append(Shadow(model, counterpart, metrics))
    return found


def traces_of(settings: Settings, name: str) -> Traces | None:
    """OpenTelemetry's traces, where the settings have somewhere to send them."""
    if settings.otlp_endpoint is None:
        return None
    from services.inference.adapters.telemetry.traces import Traces  # noqa: PLC0415  # a quarter of a second

    return Traces(name, settings.release)


class _Server(uvicorn.Server):
    """uvicorn and gRPC as one: readiness goes off first, both drain together, and the process ends with code 0."""

    def __init__(self, config: uvicorn.Config, catalog: Catalog, grpc_server: GrpcServer) -> None:
        super().__init__(config)
        self._catalog = catalog
        self._grpc = grpc_server

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's signature
        """First signal: drain. Second: leave now."""
        self._catalog.drain()
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close both ports, then wait for what was accepted there; a second signal ends the wait."""
        self._catalog.drain()
        stopping = asyncio.create_task(self._grpc.stop(self.config.timeout_graceful_shutdown or 0))
        await super().shutdown(sockets)
        while not stopping.done():
            if self.force_exit:
                await self._grpc.stop(0)
            await asyncio.wait((stopping,), timeout=SIGNAL_SECONDS)


async def serve(settings: Settings, specs: list[ModelSpec], listening: socket.socket) -> str:
    """Serve HTTP on a bound socket, and gRPC, until told to stop.

    The result is why gRPC's port could not be had or the model not be loaded, empty where both went well.
    """
    metrics = Metrics(specs[0].name, settings.release)
    catalog = Catalog(
        specs,
        loader(settings, metrics),
        release=settings.release,
        memory_bytes=settings.model_memory_bytes,
        observer=metrics,
    )
    catalog.drain_seconds = settings.drain_seconds
    try:
        log = prediction_log(settings, metrics, specs[0].name)
    except ValueError as error:
        return f"{Env.PREDICTION_LOG}: {error}"
    shadows = shadows_of(settings, specs, catalog, metrics)
    for spec in specs:
        mirrors: list[Mirror] = [shadow.see for shadow in shadows if shadow.model == spec.name]
        if log is not None and spec.shadows is None:
            mirrors.append(log.see)
        catalog.mirrors[spec.name] = mirrors
    token = settings.repository_token.get_secret_value() if settings.repository_token else None
    traces = traces_of(settings, catalog.name)
    accounts = Accounts(metrics, settings.release, catalog.names, log_all=settings.access_log == "all", traces=traces)
    exchange = Exchange(catalog, settings.max_body_bytes)
    config = uvicorn.Config(
        create_app(exchange, metrics, accounts, repository_token=token),
        http=direct_protocol(exchange, accounts),
        ws="none",
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    service = InferenceService(catalog, accounts, repository_token=token)
    grpc_server = GrpcServer(service, catalog, settings.max_body_bytes)
    try:
        grpc_port = grpc_server.listen(settings.http_host, settings.grpc_port)
    except OSError as error:
        return _taken(settings.http_host, settings.grpc_port, error, Env.GRPC_PORT)
    await grpc_server.start()
    _log.info("listening", host=settings.http_host, port=listening.getsockname()[1], grpc_port=grpc_port)
    server = _Server(config, catalog, grpc_server)
    serving = asyncio.create_task(server.serve([listening]))
    failure = await _start(catalog, serving)
    if failure:
        server.should_exit = True
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    following = asyncio.create_task(_follow(catalog, settings.refresh_seconds, asked))
    await serving
    await grpc_server.stop(0)  # where the signal came before uvicorn was up, its shutdown has not done it
    following.cancel()
    for shadow in shadows:
        shadow.close()
    await catalog.close(settings.drain_seconds)
    if log is not None:
        await asyncio.to_thread(log.close, LOG_SECONDS)
    if traces is not None:
        await asyncio.to_thread(traces.close)
    return failure


async def _start(catalog: Catalog, serving: asyncio.Task[None]) -> str:
    """Load the models; the result is why that failed, empty where it did not or the process was told to stop."""
    loading = asyncio.create_task(catalog.start())
    await asyncio.wait((loading, serving), return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():  # told to stop while loading
        loading.cancel()
        return ""
    error = loading.exception()
    if error is not None and not isinstance(error, ShuttingDown):
        return str(error)
    _log.info("ready", models=catalog.names, release=catalog.release)
    return ""


async def _follow(catalog: Catalog, refresh_seconds: float, asked: asyncio.Event) -> None:
    """Look at aliases again and again, at intervals and when SIGHUP asks for it."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(refresh_seconds):
                await asked.wait()
        asked.clear()
        await catalog.refresh()


def main() -> int:
    """Run the service; the result is the process's exit code."""
    sys.setswitchinterval(SWITCH_SECONDS)
    # Until uvicorn listens to signals: the first process of a container has no default for them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        settings = Settings()
    except ValidationError as error:
        return refuse(f"{first_problem(error)} → correct the variable", None)
    try:
        prepare_process(settings.cache_dir)
    except OSError as error:
        return refuse(f"cache {settings.cache_dir}: {error.strerror} → it is writable → mount a volume", settings)
    configure_logs(settings.log_level)
    try:
        specs = models(settings)
    except InvalidArtifact as error:
        return refuse(str(error), settings)
    try:
        listening = socket.create_server((settings.http_host, settings.http_port), backlog=2048)
    except OSError as error:
        return refuse(_taken(settings.http_host, settings.http_port, error, Env.HTTP_PORT), settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        failure = runner.run(serve(settings, specs, listening))
    return refuse(failure, settings) if failure else 0


def _taken(host: str, port: int, error: OSError, variable: Env) -> str:
    return f"port {host}:{port}: {error.strerror} → it is free → set {variable} to another"


def refuse(reason: str, settings: Settings | None) -> int:
    """Say in one line why the process cannot go on; the result is its exit code."""
    line = f"slipway: {' '.join(reason.split())}"
    print(line, file=sys.stderr, flush=True)
    path = settings.termination_log if settings else Path("/dev/termination-log")
    with contextlib.suppress(OSError):  # only a pod has the file, and it exists there already
        if os.access(path, os.W_OK):
            path.write_text(line + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
