"""Before any load: every answer of a server is compared with what the model answers in-process."""

from __future__ import annotations

import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from bench.processes import BenchError

if TYPE_CHECKING:
    from bench.processes import Process
    from bench.protocols import Array, Message, Protocol
    from bench.servers import Server
    from bench.workloads import Workload

CLIENTS = 8
"""Callers at once: batches then mix requests, and a mistake in taking them apart shows."""
REQUESTS = {1: 64, 64: 16, 1024: 2}
"""Requests of the pass, by rows; their rows differ."""


class MismatchError(BenchError):
    """A server answers something else than its model."""


def post(port: int, message: Message, seconds: float = 60.0) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in lower case) and body of one POST on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("POST", message.path, message.body, message.headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def get(port: int, path: str) -> int | None:
    """Status of a GET, None where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def wait_ready(process: Process, server: Server, port: int) -> float:
    """Seconds until the server was ready; its log is in the error where it does not get there."""
    started = time.monotonic()
    while time.monotonic() - started < server.start_seconds:
        if not process.alive():
            raise BenchError(f"{server.title} ended while it started:\n{process.tail()}")
        if get(port, server.ready) == http.client.OK:
            return time.monotonic() - started
        time.sleep(0.1)
    raise BenchError(f"{server.title} is not ready after {server.start_seconds:.0f} s:\n{process.tail()}")


def verify(port: int, protocol: Protocol, workload: Workload, rows: int, inputs: Array, expected: Array) -> float:
    """The largest difference found, within the workload's tolerance; `MismatchError` beyond it."""
    starts = [(number * max(1, rows // 2)) % (len(inputs) - rows + 1) for number in range(REQUESTS[rows])]

    def difference(start: int) -> float:
        status, headers, body = post(port, protocol.ask(inputs[start : start + rows], 0))
        where = f"{protocol.name}, rows {start} to {start + rows - 1}"
        if status != http.client.OK:
            raise MismatchError(f"{where}: status {status}: {body[:300].decode(errors='replace')}")
        return compare(protocol.read(body, headers), expected[start : start + rows], workload.tolerance, where)

    with ThreadPoolExecutor(CLIENTS) as clients:
        return max(clients.map(difference, starts))


def compare(answered: Array, expected: Array, tolerance: float, where: str) -> float:
    """The largest difference, relative where values are large, in the type that is expected."""
    if answered.shape != expected.shape:
        raise MismatchError(f"{where}: {answered.shape[0]} answers for {expected.shape[0]} rows")
    answered = answered.astype(expected.dtype)
    apart = np.abs(answered - expected) / np.maximum(1.0, np.abs(expected))
    worst = int(np.argmax(apart))
    if not apart[worst] <= tolerance:  # not a number is a difference, too
        raise MismatchError(
            f"{where}: row {worst} is {answered[worst]!r}, in-process it is {expected[worst]!r}; {apart[worst]:.3g} "
            f"apart, {tolerance:g} allowed"
        )
    return float(apart[worst])
