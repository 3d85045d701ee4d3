"""One started server: verified, then loaded, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bench import load, openloop
from bench.cores import FOREIGN_SHARE, Cores
from bench.environments import cache, perf_analyzer
from bench.goals import DEADLINE_MS, OVERLOAD_FACTOR, POISSON_SHARES, keeps_bound
from bench.measurement import CLOSED, OPEN_LOOP, OVERLOAD, PERF_ANALYZER, POISSON, WRK, Measurement
from bench.processes import BenchError, Process, on_cores
from bench.protocols import MODEL
from bench.servers import FLOOR, OURS
from bench.verify import get, verify
from bench.workloads import artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bench.protocols import Message
    from bench.servers import Server
    from bench.workloads import Workload

TRIES = 2
"""A figure taken while other processes used the cores is taken again, until it has been taken this often."""
WARM_UP_SECONDS = 1
"""Load before each figure that is not counted."""
BY_TRITONS_GENERATOR = (OURS, "triton")
"""Servers that are compared by perf_analyzer, too, where they describe their models as it wants."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One closed loop."""

    rows: int
    encoding: str
    connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One started server in one round."""

    number: int
    """Of the round."""
    server: Server
    workload: Workload
    process: Process
    target: load.Target
    cores: Cores
    seconds: int
    """Of each figure."""
    add: Callable[[Measurement], None]

    def verify(self, cells: Iterable[Cell]) -> None:
        """Compare answers with the model's own; `MismatchError` ends this visit."""
        if self.server.name == FLOOR:  # it has no model
            return
        directory = artifact(self.workload.name, cache())
        inputs, expected = np.load(directory / "inputs.npy"), np.load(directory / "expected.npy")
        for rows, encoding in dict.fromkeys((cell.rows, cell.encoding) for cell in cells):
            verify(self.target.port, self.server.protocols[encoding], self.workload, rows, inputs, expected)

    def closed(self, cell: Cell) -> Measurement:
        """Clients that wait for each answer, by wrk, and by perf_analyzer where that can be; the result is wrk's."""
        message = self._message(cell.rows, cell.encoding)
        found = self._closed_by(WRK, cell, lambda s: load.wrk(self.target, message, cell.connections, s))
        if self.server.name in BY_TRITONS_GENERATOR and cell.encoding == "binary" and self._describes_its_model():
            try:
                self._closed_by(
                    PERF_ANALYZER, cell, lambda s: load.triton_clients(self.target, cell.rows, cell.connections, s)
                )
            except BenchError as error:  # a second opinion: wrk's figure stands without it
                print(f"  {error}".splitlines()[0], flush=True)
        return found

    def poisson(self, top: float) -> None:
        """Requests at random times at falling shares of a rate, until the bound on p99 is kept."""
        message = self._message(1, "binary")
        for share in POISSON_SHARES:
            if keeps_bound(self._open(POISSON, share * top, message)):
                return

    def overload(self, top: float) -> None:
        """Ten times as many requests as can be answered, each with its deadline."""
        self._open(OVERLOAD, OVERLOAD_FACTOR * top, self._message(1, "binary", timeout=round(DEADLINE_MS * 1e3)))

    def _message(self, rows: int, encoding: str, timeout: int = 0) -> Message:
        inputs = np.load(artifact(self.workload.name, cache()) / "inputs.npy")
        return self.server.protocols[encoding].ask(inputs[:rows], timeout)

    def _describes_its_model(self) -> bool:
        """perf_analyzer reads a model's configuration, an extension of Triton's, before it sends anything."""
        return perf_analyzer() is not None and get(self.target.port, f"/v2/models/{MODEL}/config") == 200  # noqa: PLR2004

    def _closed_by(self, generator: str, cell: Cell, run: Callable[[int], load.Outcome]) -> Measurement:
        run(WARM_UP_SECONDS)
        empty = Measurement(
            server=self.server.name, workload=self.workload.name, rows=cell.rows, encoding=cell.encoding, mode=CLOSED,
            generator=generator, load=cell.connections, round=self.number, requests_per_second=0, p50_ms=0, p99_ms=0,
        )  # fmt: skip

        def once() -> Measurement:
            before = self.cores.sample(self.process)
            outcome = run(self.seconds)
            cost = self.cores.since(before, self.process, loaded=outcome.load_cpu * self.seconds)
            return replace(
                empty, requests_per_second=round(outcome.requests_per_second, 2), p50_ms=outcome.p50_ms,
                p99_ms=outcome.p99_ms, refused=outcome.refused, broken=outcome.broken, load_cpu=outcome.load_cpu,
                server_cpu=cost.server, foreign_cpu=cost.foreign, stolen_cpu=cost.stolen,
            )  # fmt: skip

        return self._settle(once)

    def _settle(self, once: Callable[[], Measurement]) -> Measurement:
        """The first undisturbed figure, or the least disturbed of all."""
        tried: list[Measurement] = []
        while len(tried) < TRIES:
            self.cores.wait_for_quiet(self.process)
            tried.append(once())
            if tried[-1].foreign_cpu <= FOREIGN_SHARE:
                break
        best = min(tried, key=lambda each: each.foreign_cpu)
        self.add(best)
        return best

    def _open(self, mode: str, rate: float, message: Message) -> Measurement:
        """An open-loop run; accepted answers are in the figure, all of them in its detail."""
        request = self.target.scratch / "request"
        request.write_bytes(raw(message))
        spec = openloop.Spec(
            port=self.target.port, request=str(request), rate=rate, seconds=self.seconds, seed=self.number
        )
        asked = self.target.scratch / "spec.json"
        asked.write_text(openloop.as_json(spec))
        command = on_cores(self.target.cores, [str(openloop.client()), str(asked)])

        def once() -> Measurement:
            before = self.cores.sample(self.process)
            told = openloop.told(command, spec.warm_up + spec.seconds + openloop.DRAIN_SECONDS + load.GRACE_SECONDS)
            cost = self.cores.since(before, self.process, loaded=told["cpu_seconds"])
            statuses = told["statuses"]
            accepted = statuses.get("200", {"count": 0, "p50_ms": 0.0, "p99_ms": NEVER_MS})
            return Measurement(
                server=self.server.name, workload=self.workload.name, rows=1, encoding="binary", mode=mode,
                generator=OPEN_LOOP, load=round(rate * spec.seconds / told["seconds"], 1), round=self.number,
                requests_per_second=round(accepted["count"] / told["seconds"], 2), p50_ms=accepted["p50_ms"],
                p99_ms=accepted["p99_ms"],
                refused=sum(each["count"] for status, each in statuses.items() if status not in ("200", "0")),
                broken=told["unanswered"] + statuses.get("0", {"count": 0})["count"],
                server_cpu=cost.server, foreign_cpu=cost.foreign, stolen_cpu=cost.stolen, detail=told,
            )  # fmt: skip

        return self._settle(once)


NEVER_MS = 1e9
"""Stands for the latency of answers that never came: JSON has no infinity."""


def raw(message: Message) -> bytes:
    """The whole HTTP request."""
    headers = {"Host": "127.0.0.1", **message.headers, "Content-Length": str(len(message.body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {message.path} HTTP/1.1\r\n{head}\r\n".encode() + message.body
