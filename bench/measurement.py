"""One figure, with what it took to get it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CLOSED, POISSON, OVERLOAD, FORWARD = "closed", "poisson", "overload", "forward"
"""How the load was made: clients that wait; requests at random times; ten times too many; no server at all."""

WRK, PERF_ANALYZER, OPEN_LOOP, NONE = "wrk", "perf_analyzer", "bench.openloop", "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One server, one workload, one payload, one round."""

    server: str
    workload: str
    rows: int
    encoding: str
    """`json` or `binary`; of a forward pass `none`."""
    mode: str
    generator: str
    load: float
    """Closed: connections. Open: requests a second, of an overload too. Forward: 1."""
    round: int
    requests_per_second: float
    """Answered with status 200."""
    p50_ms: float
    p99_ms: float
    refused: int = 0
    broken: int = 0
    server_cpu: float = 0.0
    """Share of the server's cores that its processes took."""
    load_cpu: float = 0.0
    """Share of one core that the generator took; near 1 the generator was measured, not the server."""
    foreign_cpu: float = 0.0
    """Share of the used cores that other processes took, the larger of both sides: what makes a figure doubtful."""
    stolen_cpu: float = 0.0
    """Share that the machine's host took away."""
    detail: dict[str, Any] = field(default_factory=dict)
    """Of an open loop: counts and percentiles by status."""

    @property
    def per_cpu_second(self) -> float:
        """Requests for each second that the server had a core: what other processes took of it is left out."""
        return self.requests_per_second / self.server_cpu if self.server_cpu else self.requests_per_second

    @property
    def cell(self) -> tuple[str, str, int, str, str, str, float]:
        """What is measured, the round aside."""
        return (self.server, self.workload, self.rows, self.encoding, self.mode, self.generator, self.load)
