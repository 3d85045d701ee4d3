"""What happens around every request of the FastAPI application: an id, the accounts, and the last resort."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect

from services.contract import VERSION_HEADER, Route
from services.inference.adapters.http.errors import OTHER, describe, protocol_of, to_starlette
from services.inference.adapters.telemetry.accounts import ID_HEADER, request_id_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from services.inference.adapters.telemetry.accounts import Accounts

_QUIET = frozenset({Route.HEALTH, Route.LIVE, Route.READY, Route.METRICS})
"""Probes and scrapes: every few seconds, of no interest unless something is wrong."""


class Envelope:
    """Pure ASGI, so that a body is never buffered twice."""

    def __init__(self, app: ASGIApp, accounts: Accounts) -> None:
        self._app = app
        self._accounts = accounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = request_id_of(headers)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = MutableHeaders(scope=message)
                answered[ID_HEADER.decode()] = request_id
                answered[VERSION_HEADER] = self._accounts.release
            await send(message)

        path = scope["path"]
        quiet = path in _QUIET
        # A probe that fails while the model loads is no failed request: it must not count against an objective.
        protocol = OTHER if quiet else protocol_of(path)
        visit = self._accounts.begin(protocol, scope["method"], path.encode(), headers, quiet=quiet)
        try:
            await self._app(scope, receive, send_marked)
        except ClientDisconnect:
            pass  # its caller has gone: a 499 and no failure
        except Exception as error:
            if status:  # the answer has begun: only the connection can say that it is broken
                raise
            await to_starlette(describe(error, protocol_of(path), request_id))(scope, receive, send_marked)
        finally:
            self._accounts.end(visit, status or 499, request_id, scope["state"].get("ran"))
