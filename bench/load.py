"""Load generators: wrk for every protocol, perf_analyzer for servers that describe their models as Triton does.

Both send to 127.0.0.1 only, for a bounded time, from the load generator's own cores.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.environments import HERE, perf_analyzer
from bench.processes import BenchError, on_cores
from bench.protocols import MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from bench.protocols import Message

GRACE_SECONDS = 60.0
"""How much longer than its measurement a generator may take before it is ended."""
TIMEOUT_SECONDS = 30
"""How long wrk waits for one answer."""
WINDOWS = 3
"""perf_analyzer measures this many windows and tells their mean; fewer it does not accept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a generator saw."""

    requests_per_second: float
    """Answers with status 200."""
    p50_ms: float
    p99_ms: float
    refused: int = 0
    """Answers of another status than 200."""
    broken: int = 0
    """Requests without an answer."""
    load_cpu: float = 0.0
    """Share of one core that the generator took: near 1 it, and not the server, is what was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where load goes, and from where."""

    port: int
    cores: str
    scratch: Path


def wrk(target: Target, message: Message, connections: int, seconds: int) -> Outcome:
    """Closed loop: every connection sends its next request when the last is answered."""
    body = target.scratch / "body"
    body.write_bytes(message.body)
    headers = [part for pair in message.headers.items() for part in pair]
    command = [
        "wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s",
        "--timeout", f"{TIMEOUT_SECONDS}s", "--script", str(HERE / "generator" / "closed.lua"),
        f"http://127.0.0.1:{target.port}{message.path}", "--", str(body), *headers,
    ]  # fmt: skip
    output, cpu = _run(on_cores(target.cores, command), {}, seconds)
    line = next((line for line in output.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise BenchError(f"wrk told no result:\n{output[-1000:]}")
    return read_wrk(line, cpu / seconds)


def read_wrk(line: str, load_cpu: float) -> Outcome:
    """The line that closed.lua writes."""
    told = json.loads(line.removeprefix("RESULT "))
    return Outcome(
        requests_per_second=(told["requests"] - told["refused"]) / told["seconds"],
        p50_ms=told["p50_ms"],
        p99_ms=told["p99_ms"],
        refused=told["refused"],
        broken=told["broken"],
        load_cpu=round(load_cpu, 3),
    )


def triton_clients(target: Target, batch: int, concurrency: int, seconds: int) -> Outcome:
    """The same closed loop by perf_analyzer, over V2 binary; `batch` rows a request.

    One thread a client: its asynchronous mode reads freed memory ("received CURLMsg=…") and now and then ends of it.
    """
    found = perf_analyzer()
    if found is None:
        raise BenchError("perf_analyzer cannot run → it needs libb64 → apt-get install -y libb64-0d")
    program, environment = found
    report = target.scratch / "perf.csv"
    report.unlink(missing_ok=True)
    window = seconds * 1000 // WINDOWS
    command = [
        program, "-m", MODEL, "-u", f"127.0.0.1:{target.port}", "-i", "http", "-b", str(batch), "--sync",
        "--concurrency-range", str(concurrency), "--measurement-interval", str(window), "--max-trials", str(WINDOWS),
        "--stability-percentage", "999", "--percentile", "99", "--input-data", "random",
        "--input-tensor-format", "binary", "--output-tensor-format", "binary", "-f", str(report),
    ]  # fmt: skip
    output, cpu = _run(on_cores(target.cores, command), environment, seconds)
    if not report.is_file():
        raise BenchError(f"perf_analyzer told no result:\n{output[-1000:]}")
    return read_perf_analyzer(report.read_text(), batch, cpu / seconds)


def read_perf_analyzer(report: str, batch: int, load_cpu: float) -> Outcome:
    """Its CSV report, of one line: inferences are rows, times are µs."""
    told = next(csv.DictReader(report.strip().splitlines()))
    return Outcome(
        requests_per_second=float(told["Inferences/Second"]) / batch,
        p50_ms=float(told["p50 latency"]) / 1e3,
        p99_ms=float(told["p99 latency"]) / 1e3,
        load_cpu=round(load_cpu, 3),
    )


def _run(command: list[str], environment: dict[str, str], seconds: int) -> tuple[str, float]:
    """Output, and the processor time taken in seconds."""
    before = _children_cpu()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    ) as child:
        try:
            output, _ = child.communicate(timeout=seconds + GRACE_SECONDS)
        except subprocess.TimeoutExpired as error:  # perf_analyzer hangs now and then
            child.kill()
            raise BenchError(f"the load generator does not end after {seconds + GRACE_SECONDS} s") from error
        except BaseException:
            child.kill()
            raise
    return output, _children_cpu() - before


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
