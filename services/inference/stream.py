"""A stream worker's process: settings → logs → probes → topics → model → work → drain.

1. settings are read; a wrong one ends the process with its name
2. the port of probes and metrics opens: live at once, ready not yet
3. the brokers let this user in, and the topics are there
4. the model is fetched, verified, loaded and warmed up
5. ready: the worker joins its group
6. SIGTERM: what is begun is committed, the group is left, the process ends with code 0; a second one ends it at once,
   which loses nothing either

Where 1 to 4 fail, or 5 in a way that only a new process mends, it exits with code 1, with one line on standard error
and in the termination log.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import ValidationError

from services.contract import Env
from services.inference.adapters.stream.letters import Letters
from services.inference.adapters.stream.metrics import StreamMetrics
from services.inference.adapters.stream.models import FollowedModel
from services.inference.adapters.stream.output import AtLeastOnce, ExactlyOnce, StreamFailed
from services.inference.adapters.stream.pace import Pace
from services.inference.adapters.stream.probes import Probes
from services.inference.adapters.stream.topics import keeping, look
from services.inference.adapters.stream.worker import Source, Worker
from services.inference.adapters.telemetry.metrics import Metrics
from services.inference.core.document import first_problem
from services.inference.core.errors import LoadError
from services.inference.logs import configure_logs
from services.inference.main import loader, models, refuse
from services.inference.settings import prepare_process
from services.inference.stream_settings import StreamSettings

if TYPE_CHECKING:
    from types import FrameType

    from services.inference.adapters.stream.output import Output

SILENT_SECONDS = 300.0
"""A loop that has not come round for so long hangs: twice the patience with a broker, and longer than any batch."""

_log = structlog.stdlib.get_logger("slipway.stream")


class Stream:
    """One process: its probes, and the worker once there is one."""

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings
        self._name = str(settings.model_name)
        self._metrics = Metrics(self._name, settings.release)
        self._worker: Worker | None = None
        self._told = False
        self.probes = Probes(
            (settings.http_host, settings.http_port),
            live=lambda: self._worker is None or time.monotonic() - self._worker.beat < SILENT_SECONDS,
            ready=lambda: self._worker is not None and not self._told,
            metrics=self._metrics.render,
        )

    def stop(self, *_: int | FrameType | None) -> None:
        """Drain; told twice, or before there is a worker, end at once."""
        if self._told or self._worker is None:
            os._exit(1 if self._told else 0)
        self._told = True
        self._worker.stop()

    def run(self) -> None:
        """Work until told to stop. Raises `StreamFailed` and `LoadError`."""
        settings = self._settings
        self.probes.start()
        _log.info("listening", host=settings.http_host, port=self.probes.server_port)
        client = settings.client()
        names = (settings.input, settings.output, settings.dead_letter)
        source, output, dead_letter = look(client, names, settings.max_message_bytes)
        live, *shadows = models(settings)
        model = FollowedModel(live, loader(settings, self._metrics), self._metrics, settings.refresh_seconds)
        model.load(shadows[0] if shadows else None)
        signal.signal(signal.SIGHUP, lambda *_: model.refresh())
        worker = Worker(
            Source({**client, "group.id": settings.group}, settings.input),
            model,
            _output(settings, client, min(output.max_bytes, dead_letter.max_bytes)),
            Letters(output, keeping(dead_letter), source.partitions),
            StreamMetrics(self._name, settings.release, self._metrics.registry),
            pace=Pace(
                most_rows=settings.batch_rows,
                batch_seconds=settings.batch_ms / 1e3,
                commit_seconds=settings.commit_ms / 1e3,
            ),
        )
        self._worker = worker
        _log.info("ready", group=settings.group, worker=settings.worker, guarantee=settings.guarantee)
        try:
            worker.run()
        finally:
            model.close()
        _log.info("drained")


def _output(settings: StreamSettings, client: dict[str, Any], batch_bytes: int) -> Output:
    if settings.guarantee == "exactly-once":
        return ExactlyOnce(client, batch_bytes, f"{settings.group}-{settings.worker}")
    return AtLeastOnce(client, batch_bytes)


def main() -> int:
    """Run the worker; the result is the process's exit code."""
    # The first process of a container has no default for signals.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        settings = StreamSettings()
    except ValidationError as error:
        return refuse(f"{first_problem(error)} → correct the variable", None)
    try:
        prepare_process(settings.cache_dir)
    except OSError as error:
        return refuse(f"cache {settings.cache_dir}: {error.strerror} → it is writable → mount a volume", settings)
    configure_logs(settings.log_level)
    try:
        stream = Stream(settings)
    except OSError as error:
        where = f"{settings.http_host}:{settings.http_port}"
        return refuse(f"port {where}: {error.strerror} → it is free → set {Env.HTTP_PORT} to another", settings)
    signal.signal(signal.SIGTERM, stream.stop)
    signal.signal(signal.SIGINT, stream.stop)
    try:
        stream.run()
    except (StreamFailed, LoadError) as error:
        return refuse(str(error), settings)
    finally:
        stream.probes.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
