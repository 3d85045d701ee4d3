"""One HTTP/1.1 connection: uvicorn's, with three of its faults corrected and two costs of every request taken away.

1. An offer of another protocol is ignored, as RFC 9110 (7.8) allows. Java's HTTP client offers HTTP/2 with its first
   request; the parser takes all behind such a head for the other protocol's, so uvicorn sees a request without a body
   and answers nothing that comes after it on the connection.
2. A request that was complete is answered although nonsense follows it; uvicorn's 400 for that takes its place.
3. A head is not collected for ever: one that has not ended after `MOST_HEAD_BYTES` is refused, and one that has not
   after the time of an idle connection ends with it, as does a connection that never asks.
4. The timer that ends an idle connection is not made and cancelled for each request: one looks, when it comes due,
   since when nothing has come.
5. The scope of ASGI is made for requests that go to an application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

OFFER = frozenset({b"upgrade", b"http2-settings"})
"""Headers, and tokens of Connection, that offer another protocol."""

MOST_HEAD_BYTES = 64 * 1024
"""Of a request's line and headers, counted by what comes at once: Envoy lets 60 KiB through."""


class Connection(HttpToolsProtocol):
    """`data_received` to the callbacks of the parser."""

    cycle: Any
    """The request under way, or the last one: uvicorn's, or one of a kind of its own that has what uvicorn looks at."""
    declined: bytes | None = None
    """The head of a request as it goes on, without its offer; from its headers to the end of the parser's turn."""
    head_bytes: int | None = None
    """What has come of a head that is not complete; None where none is under way."""
    begun = 0.0
    """When that head began, by the event loop."""
    idle_since: float | None = None
    """When the last answer went out, or the connection was made; None while a request comes or waits for its answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller is here, who may never ask."""
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        self._look_in(self.timeout_keep_alive)

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        self.idle_since = None
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                self._go_on(data, offer.args[0])
        except httptools.HttpParserError:
            self._refuse("Invalid HTTP request received.")
            return
        if self.head_bytes is not None:
            self.head_bytes += len(data)
            if self.head_bytes > MOST_HEAD_BYTES:
                self._refuse(f"A request's line and headers have at most {MOST_HEAD_BYTES} bytes.")

    def _refuse(self, why: str) -> None:
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            self.send_400_response(why)
        else:  # what was asked before is answered first, and nothing after it
            cycle.keep_alive = False
            self.flow.pause_reading()

    def _go_on(self, data: bytes, at: int) -> None:
        """Parse what the parser has left, from `at`, behind the head of a request whose offer is declined."""
        while self.declined is not None:
            data, self.declined = self.declined + data[at:], None
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                at = offer.args[0]

    def declines_offer(self) -> bool:
        """Whether the request whose headers are complete offers another protocol: then it comes again without."""
        parser = self.parser
        if not parser.should_upgrade() or parser.get_method() == b"CONNECT":
            return False
        version = parser.get_http_version().encode()
        self.declined = plain_head(b"%b %b HTTP/%b" % (parser.get_method(), self.url, version), self.headers)
        return True

    def on_message_begin(self) -> None:
        """A request begins."""
        self.head_bytes, self.begun = 0, self.loop.time()
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Its headers are here."""
        self.head_bytes = None
        if not self.declines_offer():
            url, headers, expects = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()  # makes the scope
            self.url, self.expect_100_continue = url, expects
            self.headers += headers
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """It has come whole; where it made an offer it has yet to come."""
        if self.declined is None:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered; the next may have come already."""
        if self.pipeline:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        self.idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_in(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection where it has been idle, or at a head, for long enough.

        A request that is complete has another look made when it is answered.
        """
        self.timeout_keep_alive_task = None
        since = self.idle_since if self.head_bytes is None else self.begun
        if since is None:
            return
        left = since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._look_in(left)
        else:
            super().timeout_keep_alive_handler()

    def _look_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)


def plain_head(line: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """A request's head again, without its offer of another protocol."""
    lines = [line]
    for name, value in headers:
        if name == b"connection":
            tokens = [each for each in value.split(b",") if each.strip().lower() not in OFFER]
            lines.append(b"connection: " + b",".join(tokens))
        elif name not in OFFER:
            lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join((*lines, b"", b""))
