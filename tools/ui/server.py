"""The page's server: reads only, answers this machine only, changes nothing."""

from __future__ import annotations

import contextlib
import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from tools.ui.page import STYLE, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tools.ui.status import Status

HOST = "127.0.0.1"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Watcher:
    """Looks again and again on a thread of its own, so that a page is there at once."""

    def __init__(self, gather: Callable[[], Status], every_seconds: float) -> None:
        self._gather, self._every = gather, every_seconds
        self._stop = threading.Event()
        self.status = gather()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the look that is under way."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self.status = self._gather()


@contextlib.contextmanager
def serving(watcher: Watcher, port: int) -> Iterator[ThreadingHTTPServer]:
    """A server that is listening; 0 lets the system choose its port."""

    class Handler(BaseHTTPRequestHandler):
        server_version = "slipway"
        sys_version = ""

        def do_GET(self) -> None:
            # A page of another site whose name points here would have that name in its Host.
            host = (self.headers.get("Host") or "").rpartition(":")[0]
            if host not in (HOST, "localhost"):
                self._answer(HTTPStatus.FORBIDDEN, "text/plain", f"ask {HOST} by its name\n")
                return
            pages: dict[str, tuple[str, Callable[[], str]]] = {
                "/": ("text/html", lambda: render(watcher.status)),
                "/style.css": ("text/css", lambda: STYLE),
                "/status.json": ("application/json", lambda: json.dumps(watcher.status.as_json(), indent=1)),
            }
            found = pages.get(self.path.partition("?")[0])
            if found is None:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", "there is /, and /status.json\n")
                return
            media_type, content = found
            self._answer(HTTPStatus.OK, media_type, content())

        def _answer(self, status: HTTPStatus, media_type: str, content: str) -> None:
            body = content.encode()
            self.send_response(status)
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", f"{media_type}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: a page that refreshes itself would fill the terminal."""

    with ThreadingHTTPServer((HOST, port), Handler) as server:
        yield server
