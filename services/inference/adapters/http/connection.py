"""One HTTP/1.1 connection: uvicorn's, with two of its faults corrected.

1. An offer of another protocol is ignored, as RFC 9110 (7.8) allows. Java's HTTP client offers HTTP/2 with its first
   request; the parser takes all behind such a head for the other protocol's, so uvicorn sees a request without a body
   and answers nothing that comes after it on the connection.
2. A request that was complete is answered although nonsense follows it; uvicorn's 400 for that takes its place.
"""

from __future__ import annotations

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

OFFER = frozenset({b"upgrade", b"http2-settings"})
"""Headers, and tokens of Connection, that offer another protocol."""


class Connection(HttpToolsProtocol):
    """`data_received` to the callbacks of the parser."""

    declined: bytes | None = None
    """The head of a request as it goes on, without its offer; from its headers to the end of the parser's turn."""

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            cycle = self.cycle
            if cycle is None or cycle.response_complete or cycle.more_body:
                self.send_400_response("Invalid HTTP request received.")
            else:  # what was asked before is answered first, and nothing after it
                cycle.keep_alive = False
                self.flow.pause_reading()

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if self.declined is None:
                    return
                data = self.declined + data[offer.args[0] :]
                self.declined = None
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
            else:
                return

    def declines_offer(self) -> bool:
        """Whether the request whose headers are complete offers another protocol: then it comes again without."""
        parser = self.parser
        if not parser.should_upgrade() or parser.get_method() == b"CONNECT":
            return False
        version = parser.get_http_version().encode()
        self.declined = plain_head(b"%b %b HTTP/%b" % (parser.get_method(), self.url, version), self.headers)
        return True

    def on_headers_complete(self) -> None:
        """A request begins."""
        if not self.declines_offer():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """It has come whole; where it made an offer it has yet to come."""
        if self.declined is None:
            super().on_message_complete()


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
