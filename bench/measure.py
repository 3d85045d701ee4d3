"""The run: rounds of servers, one server at a time, each verified and then loaded.

1. round by round, so that a slow minute of the machine hits all servers alike
2. within a round workload by workload and server by server: start, verify, load every cell, stop
3. the record is written after each server
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench import load
from bench.cores import FOREIGN_SHARE, Cores
from bench.environments import ROOT, cache
from bench.goals import CONNECTIONS, by_round, goals
from bench.measurement import CLOSED, FORWARD, NONE, WRK, Measurement
from bench.processes import BenchError, Process, on_cores
from bench.servers import IN_PROCESS, OURS, SERVERS, Place, base_environment
from bench.verify import wait_ready
from bench.visit import Cell, Visit
from bench.workloads import WORKLOADS, artifact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.record import Record
    from bench.servers import Server
    from bench.workloads import Workload

LATENCY_WORKLOAD = "C"
"""The workload that is also asked by one client alone, and at random times."""
OVERLOAD_WORKLOAD = "D"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure, and where."""

    servers: tuple[str, ...]
    workloads: tuple[str, ...]
    rows: tuple[int, ...]
    encodings: tuple[str, ...]
    rounds: int
    seconds: int
    cores: Cores
    source: Path
    """The directory that holds our `services/`."""
    open_loop: bool = True

    def rows_of(self, workload: Workload) -> list[int]:
        """Payloads of a workload."""
        return [rows for rows in workload.rows if rows in self.rows]

    def cells(self, server: Server, workload: Workload) -> list[Cell]:
        """The closed loops of a server."""
        found = []
        for encoding in (each for each in server.protocols if each in self.encodings):
            for rows in self.rows_of(workload):
                found.append(Cell(rows, encoding, CONNECTIONS[rows]))
                if rows == 1 and workload.name == LATENCY_WORKLOAD:
                    found.append(Cell(rows, encoding, 1))
        return found


@dataclass(kw_only=True)
class Session:
    """One run under way."""

    plan: Plan
    record: Record
    failed: set[tuple[str, str]] = field(default_factory=set)
    """Server and workload: not tried again in this run."""

    def run(self) -> None:
        """All rounds."""
        for number in range(1, self.plan.rounds + 1):
            for workload in (WORKLOADS[name] for name in self.plan.workloads):
                self._forward(number, workload)
                for name in self.plan.servers:
                    if (name, workload.name) not in self.failed:
                        self._serve(number, SERVERS[name], workload)
                    self.record.goals = goals(self.record.measurements)
                    self.record.write()

    def _forward(self, number: int, workload: Workload) -> None:
        """The model without a server."""
        for rows in self.plan.rows_of(workload):
            if self._find(number, server=IN_PROCESS, workload=workload.name, rows=rows):
                continue
            arguments = [str(artifact(workload.name, cache())), str(rows), str(self.plan.seconds)]
            command = on_cores(self.plan.cores.server, [sys.executable, "-m", "bench.forward", *arguments])
            environment = {**base_environment(), "PYTHONPATH": str(ROOT)}
            self.plan.cores.wait_for_quiet(None)
            before = self.plan.cores.sample(None)
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            if done.returncode != 0:
                raise BenchError(f"the bare forward pass of {workload.name} failed:\n{done.stderr[-1000:]}")
            told = json.loads(done.stdout.splitlines()[-1])
            cost = self.plan.cores.since(before, None, served=told.pop("cpu_seconds"))
            self._add(
                Measurement(
                    server=IN_PROCESS, workload=workload.name, rows=rows, encoding="none", mode=FORWARD,
                    generator=NONE, load=1, round=number, foreign_cpu=cost.foreign, stolen_cpu=cost.stolen, **told,
                )
            )  # fmt: skip

    def _serve(self, number: int, server: Server, workload: Workload) -> None:
        """One server with one workload; what fails is noted and leaves the others be."""
        cells = self.plan.cells(server, workload)
        if all(self._closed(number, server, workload, cell) for cell in cells):
            return
        with tempfile.TemporaryDirectory(prefix="slipway-bench-", ignore_cleanup_errors=True) as scratch:
            try:
                with self._running(server, workload, Path(scratch)) as (process, port):
                    visit = Visit(
                        number=number, server=server, workload=workload, process=process,
                        target=load.Target(port=port, cores=self.plan.cores.load, scratch=Path(scratch)),
                        cores=self.plan.cores, seconds=self.plan.seconds, add=self._add,
                    )  # fmt: skip
                    self._visit(visit, cells)
            except BenchError as error:
                self.failed.add((server.name, workload.name))
                self.record.failures[f"{server.name} {workload.name}"] = str(error)
                print(f"✗ {server.title}, {workload.name}: {error}", flush=True)

    def _visit(self, visit: Visit, cells: list[Cell]) -> None:
        visit.verify(cells)
        for cell in cells:
            if not self._closed(visit.number, visit.server, visit.workload, cell):
                visit.closed(cell)
        name = visit.server.name
        top = self._closed(visit.number, visit.server, visit.workload, Cell(1, "binary", CONNECTIONS[1]))
        if top is None or not self.plan.open_loop:
            return
        if visit.workload.name == LATENCY_WORKLOAD and name in (OURS, "triton"):
            visit.poisson(top.requests_per_second)
        if visit.workload.name == OVERLOAD_WORKLOAD and name == OURS:
            visit.overload(top.requests_per_second)

    @contextmanager
    def _running(self, server: Server, workload: Workload, scratch: Path) -> Iterator[tuple[Process, int]]:
        port = free_port()
        place = Place(
            workload=workload, artifact=artifact(workload.name, cache()), scratch=scratch, port=port,
            source=self.plan.source,
        )  # fmt: skip
        launch = server.launch(place)
        environment = {**base_environment(), **launch.environment}
        try:
            with Process(on_cores(self.plan.cores.server, launch.command), scratch, environment) as process:
                took = wait_ready(process, server, port)
                print(f"▸ {server.title}, {workload.name}: ready in {took:.1f} s", flush=True)
                yield process, port
        finally:
            if launch.leaves:
                shutil.rmtree(launch.leaves, ignore_errors=True)

    def _closed(self, number: int, server: Server, workload: Workload, cell: Cell) -> Measurement | None:
        return self._find(
            number, server=server.name, workload=workload.name, rows=cell.rows, encoding=cell.encoding, mode=CLOSED,
            load=cell.connections, generator=WRK,
        )  # fmt: skip

    def _find(self, number: int, **wanted: object) -> Measurement | None:
        return by_round(self.record.measurements, **wanted).get(number)

    def _add(self, measured: Measurement) -> None:
        self.record.measurements.append(measured)
        print(f"  {line(measured)}", flush=True)


def free_port() -> int:
    """A port of the loopback interface that nobody has; the one after it is free, too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


def line(measured: Measurement) -> str:
    """A figure for the person who waits."""
    marks = "".join(
        f", {text}"
        for text, told in (
            (f"{measured.refused} refused", measured.refused),
            (f"{measured.broken} broken", measured.broken),
            ("generator at its limit", measured.load_cpu > 0.95),  # noqa: PLR2004
            (f"others took {measured.foreign_cpu:.0%}", measured.foreign_cpu > FOREIGN_SHARE),
        )
        if told
    )
    what = f"{measured.workload} {measured.rows:>4} × {measured.encoding:<6} {measured.mode:<8} at {measured.load:g}"
    return (
        f"{what:<44} {measured.requests_per_second:>9.1f}/s  p50 {measured.p50_ms:.2f}  p99 {measured.p99_ms:.2f} ms  "
        f"[{measured.generator}]{marks}"
    )
