"""Load on a service: open loop for latency, closed loop for throughput. To 127.0.0.1 only, for a stated time.

Threads and http.client, which take 0.2 ms of this machine for a request: enough for what a replica is expected to do,
and what it costs is part of the latencies. `bench` measures the service itself, with clients that keep up with it.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT_SECONDS = 10.0
"""After which a request counts as failed."""

SENDERS = 32
"""Threads of the open loop: requests that can be under way at once. One that finds none free waits, and its latency
counts from when it should have left."""

SEED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is sent, and where."""

    port: int
    path: str
    body: bytes


@dataclass(slots=True)
class Outcome:
    """What was seen. One a thread, added up at the end."""

    latencies: list[float] = field(default_factory=list)
    """Of the answers with status 200, in seconds."""
    errors: int = 0
    """Other answers, and requests without one."""

    @property
    def requests(self) -> int:
        """All that were sent."""
        return len(self.latencies) + self.errors

    def percentile(self, percent: int) -> float | None:
        """The smallest latency in ms that `percent` of all do not exceed; None where nothing was answered."""
        ordered = sorted(self.latencies)
        if not ordered:
            return None
        return round(ordered[-(-len(ordered) * percent // 100) - 1] * 1e3, 3)


def open_loop(target: Target, rate: float, seconds: float) -> Outcome:
    """Requests leave when a Poisson process of `rate` a second says so, whatever the service does."""
    started = time.perf_counter()
    due = _arrivals(rate, seconds)
    lock = threading.Lock()

    def send(outcome: Outcome) -> None:
        connection = _Connection(target)
        while True:
            with lock:
                at = next(due, None)
            if at is None:
                break
            time.sleep(max(0.0, started + at - time.perf_counter()))
            connection.send(outcome, since=started + at)
        connection.close()

    return _by(SENDERS, send)


def closed_loop(target: Target, connections: int, seconds: float) -> Outcome:
    """Every connection sends its next request when the last is answered."""
    end = time.perf_counter() + seconds

    def send(outcome: Outcome) -> None:
        connection = _Connection(target)
        while (now := time.perf_counter()) < end:
            connection.send(outcome, since=now)
        connection.close()

    return _by(connections, send)


def _arrivals(rate: float, seconds: float) -> Iterator[float]:
    chance = random.Random(SEED)  # noqa: S311  # arrivals, no secrets
    at = chance.expovariate(rate)
    while at < seconds:
        yield at
        at += chance.expovariate(rate)


def _by(threads: int, send: Callable[[Outcome], None]) -> Outcome:
    outcomes = [Outcome() for _ in range(threads)]
    running = [threading.Thread(target=send, args=(outcome,), daemon=True) for outcome in outcomes]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return Outcome(
        latencies=[latency for outcome in outcomes for latency in outcome.latencies],
        errors=sum(outcome.errors for outcome in outcomes),
    )


class _Connection:
    """A connection that is kept, and opened again after an error."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._http = http.client.HTTPConnection("127.0.0.1", target.port, timeout=TIMEOUT_SECONDS)

    def send(self, outcome: Outcome, since: float) -> None:
        """One request; its latency counts from `since`."""
        try:
            self._http.request("POST", self._target.path, self._target.body, {"content-type": "application/json"})
            answer = self._http.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            outcome.errors += 1
            self.close()
            return
        if answer.status == http.client.OK:
            outcome.latencies.append(time.perf_counter() - since)
        else:
            outcome.errors += 1

    def close(self) -> None:
        """Let it go; the next request opens another."""
        self._http.close()
