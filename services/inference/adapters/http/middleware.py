"""What happens around every request: an id, the accounts, the log line, and the last resort."""

from __future__ import annotations

import re
import time
import uuid
from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import Headers, MutableHeaders

from services.contract import VERSION_HEADER, Route
from services.inference.adapters.http.errors import OTHER, protocol_of, render_error

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from services.inference.adapters.http.metrics import Metrics

ID_HEADER = "x-request-id"
_ID = re.compile(r"[\x21-\x7e]{1,256}")
_QUIET = frozenset({Route.HEALTH, Route.LIVE, Route.READY, Route.METRICS})
"""Probes and scrapes: every few seconds, of no interest unless something is wrong."""
_INTERNAL_ERROR = 500

_log = structlog.stdlib.get_logger("slipway.http")


class Accounts:
    """Pure ASGI, so that a body is never buffered twice."""

    def __init__(self, app: ASGIApp, metrics: Metrics, release: str) -> None:
        self._app = app
        self._metrics = metrics
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(ID_HEADER, "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        started = time.perf_counter()

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[ID_HEADER] = request_id
                headers[VERSION_HEADER] = self._release
            await send(message)

        with self._metrics.in_flight.track_inprogress():
            try:
                await self._app(scope, receive, send_marked)
            except Exception:
                _log.exception("request failed", request_id=request_id, path=scope["path"])
                if status:  # the answer has begun: only the connection can say that it is broken
                    raise
                error = RuntimeError("hidden from the caller")
                await render_error(error, scope["path"], request_id)(scope, receive, send_marked)
            finally:
                self._account(scope, request_id, status or 499, time.perf_counter() - started)

    def _account(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        path = scope["path"]
        # A probe that fails while the model loads is no failed request: it must not count against an objective.
        self._metrics.answered(OTHER if path in _QUIET else protocol_of(path), status, seconds)
        level = _log.error if status >= _INTERNAL_ERROR and path not in _QUIET else _log.info
        if path in _QUIET:
            level = _log.debug
        level(
            "request",
            request_id=request_id,
            method=scope["method"],
            path=path,
            status=status,
            ms=round(seconds * 1e3, 3),
        )
