"""Requests for predictions, answered straight from the connection.

uvicorn's protocol builds a scope, a task, a coroutine per layer and three messages for each request; for a small model
that costs several times what the model does. This protocol is uvicorn's own, and all that is not a prediction goes
its way; a POST to a prediction's path goes from the parser to `Exchange` and its answer back in one write. See
docs/adr/0007 for what was measured.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from services.contract import VERSION_HEADER, Route
from services.inference.adapters.http.connection import Connection
from services.inference.adapters.http.errors import MLFLOW, PREDICT, V1, V2, Reply, describe
from services.inference.adapters.http.exchange import too_large
from services.inference.adapters.telemetry.accounts import ID_HEADER, request_id_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    from services.inference.adapters.http.exchange import Endpoint, Exchange, Headers
    from services.inference.adapters.telemetry.accounts import Accounts

_V1 = re.compile(rb"/v1/models/([^/?#:]+):predict")
_V2 = re.compile(rb"/v2/models/([^/?#]+)(?:/versions/([^/?#]+))?/infer")

KNOWN_URLS, KNOWN_BYTES = 4096, 512
"""URLs whose endpoint is remembered, and bytes of the longest; a caller that makes up others loses the shortcut."""

_CLOSE = b"connection: close\r\n"


def direct_protocol(exchange: Exchange, accounts: Accounts) -> type[HttpToolsProtocol]:
    """Uvicorn's `http` setting for one process."""
    paths = Paths(exchange)
    service = Service(exchange, accounts)

    class DirectProtocol(Connection):
        """One connection."""

        direct: Cycle | None = None
        """The last prediction; `cycle` may be what was asked behind it."""

        def on_headers_complete(self) -> None:
            self.head_bytes = None
            parser = self.parser
            if self.declines_offer():
                return
            endpoint = paths.endpoint(self.url) if parser.get_method() == b"POST" else None
            busy = self.cycle is not None and not self.cycle.response_complete
            # The rare ways of HTTP/1 are uvicorn's.
            if endpoint is None or busy or self.expect_100_continue:
                super().on_headers_complete()
                return
            headers = dict(self.headers)
            # Version 1.0 keeps a connection only where a header says so, in a way that uvicorn does not speak.
            keep_alive = parser.should_keep_alive() and (
                b"connection" not in headers or parser.get_http_version() != "1.0"
            )
            self.cycle = self.direct = Cycle(self, service, endpoint, headers, keep_alive)

        def on_body(self, body: bytes) -> None:
            cycle = self.cycle
            if isinstance(cycle, Cycle):
                cycle.feed(body)
            else:
                super().on_body(body)

        def on_message_complete(self) -> None:
            cycle = self.cycle
            if isinstance(cycle, Cycle) and self.declined is None:
                cycle.start()
            else:
                super().on_message_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            if self.direct is not None:
                self.direct.abandon()
            super().connection_lost(exc)

    return DirectProtocol


class Paths:
    """URL → what it asks for, None where it is no prediction or has anything unusual."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._known: dict[bytes, Endpoint | None] = {}

    def endpoint(self, url: bytes) -> Endpoint | None:
        """Look a URL up."""
        try:
            return self._known[url]
        except KeyError:
            found = self._find(url)
            if len(self._known) < KNOWN_URLS and len(url) <= KNOWN_BYTES:
                self._known[url] = found
            return found

    def _find(self, url: bytes) -> Endpoint | None:
        plain = {Route.PREDICT.encode(): PREDICT, Route.INVOCATIONS.encode(): MLFLOW}.get(url)
        if plain is not None:
            return self._exchange.endpoint(plain)
        for protocol, pattern in ((V2, _V2), (V1, _V1)):
            match = pattern.fullmatch(url)
            if match is not None:
                return self._exchange.endpoint(protocol, *map(_name, match.groups()))
        return None


def _name(part: bytes | None) -> str | None:
    return None if part is None else unquote_to_bytes(part).decode(errors="replace")


class Service:
    """What all connections share."""

    def __init__(self, exchange: Exchange, accounts: Accounts) -> None:
        self.exchange = exchange
        self.accounts = accounts
        self._release = b": ".join((VERSION_HEADER.encode(), accounts.release.encode()))
        self._defaults: list[tuple[bytes, bytes]] | None = None
        self._common = b""

    def common(self, defaults: list[tuple[bytes, bytes]]) -> bytes:
        """Headers of every answer, ending with a request id's name. uvicorn makes a new list once a second."""
        if defaults is not self._defaults:
            lines = [b"%b: %b" % pair for pair in defaults]
            self._common = b"\r\n".join((*lines, self._release, ID_HEADER + b": "))
            self._defaults = defaults
        return self._common


class Event:
    """What uvicorn wakes on a cycle of its own; nobody waits here."""

    def set(self) -> None:
        """Do nothing."""


class Cycle:
    """One prediction on one connection. uvicorn reads and sets the first five."""

    message_event = Event()
    response_complete = False
    disconnected = False
    more_body = True
    keep_alive: bool

    _body: bytes | bytearray = b""
    _discarded = 0
    _cancel: Callable[[], None] | None = None

    def __init__(
        self, protocol: Connection, service: Service, endpoint: Endpoint, headers: Headers, keep_alive: bool
    ) -> None:
        self.keep_alive = keep_alive
        self._protocol = protocol
        self._service = service
        self._endpoint = endpoint
        self._headers = headers
        self._visit = service.accounts.begin(endpoint.protocol, "POST", protocol.url, headers, endpoint.model)

    def feed(self, part: bytes) -> None:
        """Take a part of the body; refuse it as soon as it is too large.

        The rest is read, as much again at most: a connection that is closed at once is reset, and a caller that is
        still sending may lose the answer with it.
        """
        bound = self._service.exchange.max_body_bytes
        if self.response_complete:
            self._discarded += len(part)
            if self._discarded > bound:
                self._protocol.transport.close()
            return
        if not self._body:  # the only part, as a rule: it is not copied
            self._body = part
        elif isinstance(self._body, bytearray):
            self._body += part
        else:
            self._body = bytearray(self._body + part)
        if len(self._body) > bound:
            error = too_large(len(self._body), bound)
            self._respond(describe(error, self._endpoint.protocol, request_id_of(self._headers)))

    def start(self) -> None:
        """The request is complete."""
        self.more_body = False
        if not self.response_complete:
            self._cancel = self._service.exchange.start(self._endpoint, self._headers, self._body, self._respond)

    def abandon(self) -> None:
        """The caller has gone: nothing is done for it any more."""
        if self.response_complete or self.disconnected:
            return
        self.disconnected = True
        if self._cancel is not None:
            self._cancel()
        self._service.accounts.end(self._visit, 499, request_id_of(self._headers))

    def _respond(self, reply: Reply) -> None:
        if self.disconnected:
            return
        protocol, service = self._protocol, self._service
        status, media_type, content, request_id, more, ran = reply
        self.response_complete = True
        self._cancel, self._body = None, b""
        service.accounts.end(self._visit, status, request_id, ran)
        transport = protocol.transport
        if transport.is_closing():
            return
        lines = [b"%b: %b\r\n" % each for each in more]
        if not self.keep_alive:
            lines.append(_CLOSE)
        transport.write(
            b"%b%b%b\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b"
            % (
                STATUS_LINE[status], service.common(protocol.server_state.default_headers), request_id.encode(),
                media_type, len(content), b"".join(lines), content,
            )
        )  # fmt: skip
        if not self.keep_alive:
            transport.close()
        protocol.on_response_complete()
