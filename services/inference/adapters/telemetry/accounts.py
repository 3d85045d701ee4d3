"""What is kept of every request: an id, counters and a line in the log."""

from __future__ import annotations

import random
import re
import time
from typing import TYPE_CHECKING, NamedTuple

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import Span

    from services.inference.adapters.telemetry.metrics import Metrics
    from services.inference.adapters.telemetry.traces import Traces
    from services.inference.core.types import Ran

_CLIENT_ERROR, _INTERNAL_ERROR = 400, 500

ID_HEADER = b"x-request-id"
_ID = re.compile(rb"[\x21-\x7e]{1,256}")

_log = structlog.stdlib.get_logger("slipway.http")


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """The caller's id where it is a sane one, else a new one of 32 hex digits."""
    given = headers.get(ID_HEADER, b"")
    # Ids tell requests apart and keep no secret; the system's random bytes cost ten times as much.
    return given.decode() if given and _ID.fullmatch(given) else random.randbytes(16).hex()  # noqa: S311


LINES_A_SECOND = 50
"""Of requests that were not served: telling of an overload must not make it worse."""


class Budget:
    """So many a second."""

    def __init__(self, a_second: int) -> None:
        self._a_second = a_second
        self._second = 0
        self._spent = self._left_out = 0

    def spend(self) -> int | None:
        """How many were refused since the last that was not; None where this one is refused, too."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._spent = second, 0
        self._spent += 1
        if self._spent > self._a_second:
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        return left_out


class Visit(NamedTuple):
    """A request under way."""

    started: float
    protocol: str
    method: str
    path: bytes
    quiet: bool
    model: str | None
    span: Span | None


class Accounts:
    """The accounts of one process. Both servers of a request, FastAPI's and `direct`, keep them."""

    def __init__(
        self, metrics: Metrics, release: str, models: list[str], *, log_all: bool, traces: Traces | None = None
    ) -> None:
        self.release = release
        self._models = frozenset(models)
        self._metrics = metrics
        self._traces = traces
        self._log_all = log_all
        """Whether requests that went well are logged too: it costs more than a small model's answer."""
        self._budget = Budget(LINES_A_SECOND)

    def begin(
        self,
        protocol: str,
        method: str,
        path: bytes,
        headers: Mapping[bytes, bytes],
        model: str | None = None,
        *,
        quiet: bool = False,
    ) -> Visit:
        """A request has arrived, for a model or the process's own. `quiet` is for what comes every few seconds."""
        self._metrics.in_flight += 1
        # A name that is made up must not make a series.
        known = model if model in self._models else None
        span = None
        if self._traces is not None and not quiet:
            span = self._traces.begin(f"{method} {protocol}", method, path, headers)
        return Visit(time.perf_counter(), protocol, method, path, quiet, known, span)

    def end(self, visit: Visit, status: int, request_id: str, ran: Ran | None = None) -> None:
        """It is answered, or its caller has gone (499). `ran` says when its batch ran."""
        seconds = time.perf_counter() - visit.started
        self._metrics.in_flight -= 1
        self._metrics.answered(
            visit.model, visit.protocol, status, seconds, prediction=visit.method == "POST" and not visit.quiet
        )
        if self._traces is not None and visit.span is not None:
            self._traces.end(visit.span, status, request_id, ran)
        if visit.quiet or (status < _CLIENT_ERROR and not self._log_all):
            return
        left_out = 0 if self._log_all else self._budget.spend()
        if left_out is None:
            return
        (_log.error if status >= _INTERNAL_ERROR else _log.info)(
            "request",
            request_id=request_id,
            method=visit.method,
            path=visit.path.decode(errors="replace"),
            status=status,
            ms=round(seconds * 1e3, 3),
            **({"left_out": left_out} if left_out else {}),
            **({"trace_id": f"{visit.span.get_span_context().trace_id:032x}"} if visit.span else {}),
        )
