"""HTTP/1.1 byte by byte, for what no client library sends."""

import json
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

SECONDS = 20
"""Bound for one answer: a connection that hangs fails its test here."""


@dataclass(frozen=True)
class Answer:
    version: str
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def closes(self):
        return self.headers.get("connection") == "close"


class Wire:
    """One connection, and the bytes that have come on it."""

    def __init__(self, url):
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.close()
        self._socket.close()

    def send(self, *parts):
        """Each part in a packet of its own, as far as the system lets one."""
        for part in parts:
            self._socket.sendall(part)

    def abort(self):
        """Reset the connection, as the system does for a client that was killed."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self._stream.close()
        self._socket.close()

    def answer(self, *, bodiless=False):
        """The next answer; the connection's end is an `EOFError`. One to HEAD has the length of a body, and no body."""
        line = self._stream.readline()
        if not line:
            raise EOFError("the service has closed the connection")
        version, status, _ = line.decode().split(" ", 2)
        headers = {}
        while (line := self._stream.readline()) != b"\r\n":
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = b"" if bodiless else self._stream.read(int(headers.get("content-length", 0)))
        return Answer(version, int(status), headers, body)

    def is_closed(self):
        """Whether the service has closed its side, and nothing came before; waits for either."""
        return self._stream.read(1) == b""


def request(path, body=b"", *, method="POST", version="1.1", **headers):
    """A request's bytes. Headers are keywords with _ for -; what has none of its own gets a Content-Length."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if not any(name.lower() in ("content-length", "transfer-encoding") for name in given):
        given["content-length"] = len(body)
    lines = [f"{method} {path} HTTP/{version}", "host: test", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join((*lines, "", "")).encode() + body


def chunked(body, size, extension=b""):
    """A body in chunks, with a trailer behind it."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts) + b"0\r\nx-trailer: 1\r\n\r\n"
