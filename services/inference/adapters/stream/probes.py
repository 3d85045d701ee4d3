"""The worker's HTTP side: liveness, readiness and metrics, on the paths that the service has."""

from __future__ import annotations

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from services.contract import Route
from services.inference.adapters.telemetry.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable


class Probes(ThreadingHTTPServer):
    """Listens from its making on; answers from `start` to `close`. Raises `OSError` where the port is taken."""

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        *,
        live: Callable[[], bool],
        ready: Callable[[], bool],
        metrics: Callable[[], bytes],
    ) -> None:
        self.answers: dict[str, Callable[[], tuple[HTTPStatus, bytes]]] = {
            Route.LIVE: lambda: _probe(live()),
            Route.READY: lambda: _probe(ready()),
            Route.HEALTH: lambda: _probe(ready()),
            Route.METRICS: lambda: (HTTPStatus.OK, metrics()),
        }
        super().__init__(address, _Handler)
        self._thread = threading.Thread(target=self.serve_forever, name="probes", daemon=True)

    def start(self) -> None:
        """Answer on a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self.shutdown()
        self.server_close()


def _probe(good: bool) -> tuple[HTTPStatus, bytes]:
    return (HTTPStatus.OK, b"ok\n") if good else (HTTPStatus.SERVICE_UNAVAILABLE, b"no\n")


class _Handler(BaseHTTPRequestHandler):
    server: Probes
    timeout = 10  # seconds that a caller may take to ask

    def do_GET(self) -> None:
        """Answer one of the paths."""
        answer = self.server.answers.get(self.path.partition("?")[0])
        status, body = answer() if answer else (HTTPStatus.NOT_FOUND, b"not here\n")
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name in the base
        """Say nothing: a probe comes every few seconds."""
