"""A sample of what was asked and answered, one JSON line per row, to a file, S3 or Kafka.

    {"timestamp": "2026-11-22T10:00:00.123456+00:00", "request_id": "…", "row": 0, "model": "fraud", "version": "7",
     "release": "v7", "inputs": {"amount": 12.5}, "redacted": ["name"], "outputs": {"probability": 0.93}}

Chosen by the request's id, whole requests at a time: every release logs the same ones, so that their answers can be
compared. It never holds up an answer: lines are made and written on a thread, what comes while too much waits is
dropped, and what became of every row is counted.
"""

from __future__ import annotations

import queue
import threading
import time
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import orjson
import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.inference.core.pipeline import Pipeline
    from services.inference.core.schema import ModelInfo, Schema
    from services.inference.core.types import Request, Response, Rows

WAITING_ROWS = 20_000
"""Rows that may wait for the writer: seconds of its work, tens of megabytes for usual rows."""
LINE_BYTES = 256 * 1024
"""A longer line, of an image say, is left out: this is a log and no copy of the traffic."""
FLUSH_SECONDS = 30.0
"""How long a line may wait in this process at most, before the sink must have it."""
WARNING_SECONDS = 60.0
"""Between two lines about a sink that fails."""

_log = structlog.stdlib.get_logger("slipway.predictions")


class SinkError(Exception):
    """Lines could not be written; `rows` of them are lost."""

    def __init__(self, reason: str, rows: int) -> None:
        super().__init__(reason)
        self.rows = rows


class Sink(Protocol):
    """Where lines go. Used by one thread; its errors are `SinkError`."""

    def write(self, key: str, line: bytes) -> int:
        """Take a line, without its end; the result is how many have been written for good by now."""

    def flush(self) -> int:
        """Write what has been taken; the result is how many lines that were."""

    def close(self) -> int:
        """Flush, and let go."""


class LogObserver(Protocol):
    """Told what became of rows, for metrics; on the writer's thread or the event loop's."""

    def logged(self, model: str, rows: int, result: str) -> None:
        """`written`, `dropped` (too much waited), `oversized` or `failed`."""


class _Entry(NamedTuple):
    at: float
    info: ModelInfo
    request: Request
    response: Response


class PredictionLog:
    """Samples requests and writes them. `see` belongs to the event loop and never waits."""

    def __init__(
        self, sink: Sink, observer: LogObserver, *, model: str, share: float, redacted: frozenset[str] = frozenset()
    ) -> None:
        self._sink = sink
        self._observer = observer
        self._model = model
        self._bound = round(share * 2**32)
        self._redacted = redacted
        self._waiting = 0
        self._lock = threading.Lock()
        self._entries: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._warned = -WARNING_SECONDS
        self._unknown_told: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def see(self, pipeline: Pipeline, request: Request, response: Response) -> None:
        """Take a request that was answered, if it is one of the sample."""
        if zlib.crc32(response.id.encode()) >= self._bound:
            return
        rows = response.rows
        with self._lock:
            full = self._waiting + rows > WAITING_ROWS
            self._waiting += 0 if full else rows
        if full:
            self._observer.logged(pipeline.info.name, rows, "dropped")
            return
        self._entries.put(_Entry(time.time(), pipeline.info, request, response))

    def close(self, grace_seconds: float) -> None:
        """Write what waits, for that long at most."""
        self._entries.put(None)
        self._thread.join(grace_seconds)

    def _run(self) -> None:
        flushed = time.monotonic()
        while True:
            try:
                entry = self._entries.get(timeout=max(0.0, flushed + FLUSH_SECONDS - time.monotonic()))
            except queue.Empty:
                self._account(self._sink.flush)
                flushed = time.monotonic()
                continue
            if entry is None:
                self._account(self._sink.close)
                return
            self._write(entry)
            if time.monotonic() - flushed >= FLUSH_SECONDS:
                self._account(self._sink.flush)
                flushed = time.monotonic()

    def _write(self, entry: _Entry) -> None:
        try:
            for line in self._lines(entry):
                if len(line) > LINE_BYTES:
                    self._observer.logged(entry.info.name, 1, "oversized")
                else:
                    self._account(lambda line=line: self._sink.write(entry.response.id, line))
        except Exception as error:  # noqa: BLE001  # a line that cannot be made must not end the log
            self._observer.logged(entry.info.name, entry.response.rows, "failed")
            self._warn(error)
        finally:
            with self._lock:
                self._waiting -= entry.response.rows

    def _account(self, act: Any) -> None:
        try:
            written = act()
        except SinkError as error:
            self._observer.logged(self._model, error.rows, "failed")
            self._warn(error)
        else:
            if written:
                self._observer.logged(self._model, written, "written")

    def _warn(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._warned >= WARNING_SECONDS:
            self._warned = now
            _log.warning("prediction log incomplete", error=str(error) or type(error).__name__)

    def _lines(self, entry: _Entry) -> Iterator[bytes]:
        info, response = entry.info, entry.response
        names = [feature.name for feature in info.metadata.schema.inputs]
        self._tell_unknown(info, names)
        redacted = sorted(self._redacted.intersection(names))
        common: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(entry.at, UTC).isoformat(),
            "request_id": response.id,
            "row": 0,
            "model": info.name,
            "version": info.version,
            "release": info.release,
        }
        for row in range(response.rows):
            inputs = inputs_of(entry.request.rows, row, info.metadata.schema)
            common["row"] = row
            common["inputs"] = {name: value for name, value in inputs.items() if name not in self._redacted}
            if redacted:
                common["redacted"] = redacted
            common["outputs"] = {name: _plain(values[row]) for name, values in response.outputs.items()}
            yield orjson.dumps(common, default=_text)

    def _tell_unknown(self, info: ModelInfo, names: list[str]) -> None:
        """A name that is redacted and that the model does not have is likely a slip, and then something leaks."""
        key = f"{info.name}/{info.version}"
        if key not in self._unknown_told:
            self._unknown_told.add(key)
            unknown = sorted(self._redacted.difference(names))
            if unknown:
                _log.warning("the model has no such inputs to redact", model=key, names=unknown)


def inputs_of(rows: Rows, row: int, schema: Schema) -> dict[str, Any]:
    """One row's values by name, as they came in; NaN as null."""
    if schema.tensors:
        return {spec.name: _plain(block[row]) for spec, block in zip(schema.tensors, rows.blocks, strict=True)}
    numbers = {
        feature.name: None if np.isnan(value) else float(value)
        for feature, value in zip(schema.numeric, rows.numbers[row], strict=True)
    }
    texts = {feature.name: value for feature, value in zip(schema.text, rows.texts[row], strict=True)}
    values = numbers | texts
    return {name: values[name] for name in schema.names}


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
