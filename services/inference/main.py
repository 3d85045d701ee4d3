"""The process: settings → logs → HTTP → model → serve → drain.

1. settings are read; a wrong one ends the process with its name
2. the HTTP port opens: live at once, ready not yet
3. the model is fetched, verified, loaded and warmed up on a thread
4. ready: the catalog has the pipeline
5. SIGTERM: readiness off, the port closes, accepted requests finish within the grace period

Where 1 or 3 fails the process exits with code 1, with one line on standard error and in the
termination log, which Kubernetes shows as the pod's reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvicorn
import uvloop
from prometheus_client import disable_created_metrics
from pydantic import ValidationError

from services.inference.adapters.http.accounts import Accounts
from services.inference.adapters.http.app import create_app
from services.inference.adapters.http.direct import direct_protocol
from services.inference.adapters.http.exchange import Exchange
from services.inference.adapters.http.metrics import Metrics
from services.inference.core.batcher import BatchLimits
from services.inference.core.catalog import Catalog
from services.inference.core.errors import InferenceError
from services.inference.core.pipeline import Pipeline
from services.inference.core.schema import ModelInfo
from services.inference.logs import configure_logs
from services.inference.runtimes.detect import load_runtime
from services.inference.runtimes.sources.fetch import Origin, fetch
from services.inference.settings import Settings, prepare_process

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_log = structlog.stdlib.get_logger("slipway.main")


def load_model(settings: Settings) -> Pipeline:
    """Fetch, verify, load and warm up; blocks. Errors are `LoadError`."""
    artifact = fetch(
        Origin(
            uri=settings.model_uri,
            digest=settings.model_digest,
            version=settings.model_version,
            tracking_uri=settings.mlflow_tracking_uri,
            s3_endpoint_url=settings.s3_endpoint_url,
        ),
        settings.cache_dir,
    )
    runtime = load_runtime(artifact, settings.torch_threads)
    info = ModelInfo(
        name=settings.model_name,
        version=artifact.version,
        release=settings.release,
        digest=artifact.digest,
        metadata=runtime.metadata,
    )
    limits = BatchLimits(max_rows=settings.max_batch_rows, max_queued_rows=settings.max_queued_rows)
    pipeline = Pipeline(runtime, info, limits)
    pipeline.warm_up()
    return pipeline


class _Server(uvicorn.Server):
    """uvicorn, with readiness going off first and a drained process ending with code 0."""

    def __init__(self, config: uvicorn.Config, catalog: Catalog) -> None:
        super().__init__(config)
        self._catalog = catalog

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's signature
        """First signal: drain. Second: leave now."""
        self._catalog.drain()
        self.force_exit = self.should_exit
        self.should_exit = True


async def serve(settings: Settings, listening: socket.socket) -> str:
    """Serve on a bound socket until told to stop.

    The result is why the model could not be loaded, empty where it could.
    """
    catalog = Catalog(settings.model_name, settings.release)
    metrics = Metrics.of(catalog)
    accounts = Accounts(metrics, settings.release, log_all=settings.access_log == "all")
    exchange = Exchange(catalog, settings.max_body_bytes, metrics.rows.inc)
    config = uvicorn.Config(
        create_app(exchange, metrics, accounts),
        http=direct_protocol(exchange, accounts),
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    server = _Server(config, catalog)
    serving = asyncio.create_task(server.serve([listening]))
    failure = await _load(settings, catalog, metrics, serving)
    if failure:
        server.should_exit = True
    await serving
    await catalog.close(settings.drain_seconds)
    return failure


async def _load(settings: Settings, catalog: Catalog, metrics: Metrics, serving: asyncio.Task[None]) -> str:
    started = time.perf_counter()
    loading = _in_background(lambda: load_model(settings))
    await asyncio.wait((loading, serving), return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():  # told to stop while loading
        return ""
    try:
        pipeline = loading.result()
    except InferenceError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  # code of a model can raise anything; it is logged whole
        _log.exception("model cannot be loaded")
        return f"model {settings.model_uri}: {type(error).__name__}: {error}".splitlines()[0]
    seconds = time.perf_counter() - started
    metrics.load_seconds.set(seconds)
    catalog.add(pipeline)
    _log.info(
        "ready",
        model=catalog.name,
        version=pipeline.info.version,
        release=catalog.release,
        digest=pipeline.info.digest,
        seconds=round(seconds, 3),
    )
    return ""


def _in_background(call: Callable[[], Pipeline]) -> asyncio.Future[Pipeline]:
    """Call on a daemon thread: unlike an executor's, it does not keep a process alive that was told to stop."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Pipeline] = loop.create_future()

    def settle(result: Pipeline | None, error: Exception | None) -> None:
        if error is not None:
            done.set_exception(error)
        elif result is not None:
            done.set_result(result)

    def run() -> None:
        try:
            outcome: tuple[Pipeline | None, Exception | None] = (call(), None)
        except Exception as error:  # noqa: BLE001  # handed to the one that waits
            outcome = (None, error)
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="load-model", daemon=True).start()
    return done


def main() -> int:
    """Run the service; the result is the process's exit code."""
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        return _refuse(f"{'.'.join(map(str, first['loc']))}: {first['msg']} → correct the variable", None)
    try:
        prepare_process(settings.cache_dir)
    except OSError as error:
        return _refuse(f"cache {settings.cache_dir}: {error.strerror} → it is writable → mount a volume", settings)
    configure_logs(settings.log_level)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every one of ours, which nothing reads
    try:
        listening = socket.create_server((settings.http_host, settings.http_port), backlog=2048)
    except OSError as error:
        where = f"{settings.http_host}:{settings.http_port}"
        return _refuse(f"port {where}: {error.strerror} → it is free → set SLIPWAY_HTTP_PORT to another", settings)
    _log.info("listening", host=settings.http_host, port=listening.getsockname()[1])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        failure = runner.run(serve(settings, listening))
    return _refuse(failure, settings) if failure else 0


def _refuse(reason: str, settings: Settings | None) -> int:
    line = f"slipway: {' '.join(reason.split())}"
    print(line, file=sys.stderr, flush=True)
    path = settings.termination_log if settings else Path("/dev/termination-log")
    with contextlib.suppress(OSError):  # only a pod has the file, and it exists there already
        if os.access(path, os.W_OK):
            path.write_text(line + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
