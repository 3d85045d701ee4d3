"""Stores beyond what a table's tests meet: answers that a real store gives once in a thousand times."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services.inference.adapters.batch.errors import AccessDenied
from services.inference.adapters.batch.stores import S3Store


@pytest.fixture
def answers():
    """A store at an address that gives one answer to every DELETE: status and S3's code."""
    given = {}

    class Handler(BaseHTTPRequestHandler):
        def do_DELETE(self):
            body = f"<Error><Code>{given['code']}</Code></Error>".encode()
            self.send_response(given["status"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield (
            lambda status, code: (
                given.update(status=status, code=code) or S3Store("b", "p", f"http://127.0.0.1:{server.server_port}")
            )
        )
        server.shutdown()


def test_what_another_run_has_just_removed_is_removed(answers, credentials):
    answers(404, "NoSuchKey").delete("part-0")


def test_what_may_not_be_removed_is_told(answers, credentials):
    with pytest.raises(AccessDenied, match="403 AccessDenied"):
        answers(403, "AccessDenied").delete("part-0")
