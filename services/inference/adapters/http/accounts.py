"""What is kept of every request: counters and a line in the log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import structlog

if TYPE_CHECKING:
    from services.inference.adapters.http.metrics import Metrics

_CLIENT_ERROR, _INTERNAL_ERROR = 400, 500

_log = structlog.stdlib.get_logger("slipway.http")


class Visit(NamedTuple):
    """A request under way."""

    started: float
    protocol: str
    method: str
    path: bytes
    quiet: bool


class Accounts:
    """The accounts of one process. Both servers of a request, FastAPI's and `direct`, keep them."""

    def __init__(self, metrics: Metrics, release: str, *, log_all: bool) -> None:
        self.release = release
        self._metrics = metrics
        self._log_all = log_all
        """Whether requests that went well are logged too: it costs more than a small model's answer."""

    def begin(self, protocol: str, method: str, path: bytes, *, quiet: bool = False) -> Visit:
        """A request has arrived. `quiet` is for what comes every few seconds."""
        self._metrics.in_flight.inc()
        return Visit(time.perf_counter(), protocol, method, path, quiet)

    def end(self, visit: Visit, status: int, request_id: str) -> None:
        """It is answered, or its caller has gone (499)."""
        seconds = time.perf_counter() - visit.started
        self._metrics.in_flight.dec()
        self._metrics.answered(visit.protocol, status, seconds)
        if visit.quiet or (status < _CLIENT_ERROR and not self._log_all):
            return
        (_log.error if status >= _INTERNAL_ERROR else _log.info)(
            "request",
            request_id=request_id,
            method=visit.method,
            path=visit.path.decode(errors="replace"),
            status=status,
            ms=round(seconds * 1e3, 3),
        )
