"""Open-loop load: requests leave when a Poisson process says so, whatever the server does.

`python -m bench.openloop SPEC` reads a JSON file and writes one line of JSON. A latency counts from
the moment at which a request was due, so a server that stalls pays for all who would have come
meanwhile. One thread spins over epoll: it must neither sleep past a due time nor wait for a timer.
"""

from __future__ import annotations

import json
import random
import select
import socket
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CONNECTIONS = 256
"""Opened before the first request, because opening one may take a second where a server's backlog is full. A request
that finds none free waits, and its latency counts."""
DRAIN_SECONDS = 5.0
"""How long answers may come after the last request has left."""
IDLE = -1.0
"""Due time of a connection without a request."""
_END_OF_HEADERS = b"\r\n\r\n"
_LENGTH = b"content-length:"


@dataclass(frozen=True, slots=True)
class Spec:
    """One run."""

    port: int
    request: str
    """File with the whole HTTP request."""
    rate: float
    """Requests a second, in the mean."""
    seconds: float
    warm_up: float = 1.0
    """Seconds at the same rate that are not counted."""
    seed: int = 1


@dataclass(slots=True)
class Tally:
    """What came back: latencies in seconds by status, of the requests due after the warm-up."""

    latencies: dict[int, list[float]] = field(default_factory=dict)
    unanswered: int = 0
    late: float = 0.0
    """The longest that a request left after it was due, in seconds: the generator's own share."""


class Connection:
    """One keep-alive connection with at most one request under way."""

    __slots__ = ("buffer", "due", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.due = IDLE

    def receive(self) -> int | None:
        """The status once the answer is whole; 0 where the server closed."""
        part = self.socket.recv(262144)
        if not part:
            return 0
        self.buffer += part
        end = self.buffer.find(_END_OF_HEADERS)
        if end < 0:
            return None
        head = self.buffer[:end].lower()
        at = head.index(_LENGTH) + len(_LENGTH)
        if len(self.buffer) < end + len(_END_OF_HEADERS) + int(head[at:].split(b"\r\n", 1)[0]):
            return None
        self.buffer = b""
        return int(head[9:12])


def schedule(rate: float, seconds: float, seed: int) -> list[float]:
    """Due times of a Poisson process, in seconds from the start."""
    chance = random.Random(seed)  # noqa: S311  # the same for every server
    found, at = [], 0.0
    while (at := at + chance.expovariate(rate)) < seconds:
        found.append(at)
    return found


class Client:
    """All connections of one run."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._request = Path(spec.request).read_bytes()
        self._due = schedule(spec.rate, spec.warm_up + spec.seconds, spec.seed)
        self._poll = select.epoll()
        self._by_number: dict[int, Connection] = {}
        self._idle: deque[Connection] = deque()
        self._sent = self._in_flight = 0
        self._started = 0.0
        self.tally = Tally()

    def run(self) -> Tally:
        """Send on time, take what comes back, and stop `DRAIN_SECONDS` after the last at the latest."""
        for _ in range(CONNECTIONS):
            self._open()
        self._started = time.perf_counter()
        end = self._started + self._spec.warm_up + self._spec.seconds + DRAIN_SECONDS
        total = len(self._due)
        while (self._sent < total or self._in_flight) and (now := time.perf_counter()) < end:
            while self._sent < total and self._started + self._due[self._sent] <= now and self._send(now):
                pass
            for number, _ in self._poll.poll(0):
                self._receive(self._by_number[number])
        self.tally.unanswered = self._in_flight + total - self._sent
        for connection in self._by_number.values():
            connection.socket.close()
        return self.tally

    def _send(self, now: float) -> bool:
        """Send the next request; false where every connection waits for an answer."""
        if not self._idle:
            if len(self._by_number) == CONNECTIONS:
                return False
            self._open()
        connection = self._idle.popleft()  # in turn: one that is never used would be closed by the server
        try:
            connection.socket.sendall(self._request)
        except OSError:  # the server has closed it while it was idle
            self._close(connection)
            return True
        connection.due = self._due[self._sent]
        if connection.due > self._spec.warm_up:
            self.tally.late = max(self.tally.late, now - self._started - connection.due)
        self._sent += 1
        self._in_flight += 1
        return True

    def _receive(self, connection: Connection) -> None:
        try:
            status = connection.receive()
        except OSError:
            status = 0
        if status is None:
            return
        if connection.due != IDLE:
            self._in_flight -= 1
            if connection.due > self._spec.warm_up:
                taken = time.perf_counter() - self._started - connection.due
                self.tally.latencies.setdefault(status, []).append(taken)
            connection.due = IDLE
            self._idle.append(connection)
        if status == 0:
            self._close(connection)

    def _open(self) -> None:
        connection = Connection(self._spec.port)
        number = connection.socket.fileno()
        self._by_number[number] = connection
        self._poll.register(number, select.EPOLLIN)
        self._idle.append(connection)

    def _close(self, connection: Connection) -> None:
        number = connection.socket.fileno()
        self._poll.unregister(number)
        del self._by_number[number]
        if connection in self._idle:
            self._idle.remove(connection)
        connection.socket.close()


def summary(spec: Spec, tally: Tally) -> dict[str, Any]:
    """Counts and percentiles in milliseconds, by status."""
    return {
        "seconds": spec.seconds,
        "unanswered": tally.unanswered,
        "late_ms": round(tally.late * 1e3, 3),
        "cpu_seconds": time.process_time(),
        "statuses": {
            str(status): {
                "count": len(taken),
                **{f"p{percent}_ms": round(percentile(taken, percent) * 1e3, 3) for percent in (50, 99)},
                "max_ms": round(max(taken) * 1e3, 3),
            }
            for status, taken in sorted(tally.latencies.items())
        },
    }


def percentile(values: list[float], percent: float) -> float:
    """The smallest value that `percent` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * int(percent) // 100) - 1))]


def as_json(spec: Spec) -> str:
    """What the command reads."""
    return json.dumps(asdict(spec))


if __name__ == "__main__":
    asked = Spec(**json.loads(Path(sys.argv[1]).read_text()))
    print(json.dumps(summary(asked, Client(asked).run())))
