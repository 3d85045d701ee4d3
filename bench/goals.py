"""What the figures have to show, and whether they do: pure arithmetic on measurements.

Ratios are made round by round, because the rounds' servers ran one after the other under the same
conditions, and then the median of the rounds is taken; the spread is the rounds' smallest and largest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from bench.measurement import CLOSED, FORWARD, OVERLOAD, PERF_ANALYZER, POISSON, WRK, Measurement
from bench.servers import IN_PROCESS, OURS, SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CONNECTIONS = {1: 32, 64: 16, 1024: 2}
"""Clients of the closed loops, by rows of their requests: enough to keep every server busy, and no more than 2,048 rows
on their way, so that no server's queue overflows."""

P99_BOUND_MS = 10.0
"""Of the Poisson load."""
POISSON_SHARES = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)
"""Of the closed loop's rate, tried from the largest."""
OVERLOAD_FACTOR = 10
DEADLINE_MS = 100.0
"""What every request of the overload gives the server."""
REFUSAL_MS = 5.0
"""Within which an overloaded server says no."""
REFUSALS = ("429", "503")
EXPIRED = "504"
"""Accepted, and not answered in time."""
EXPIRED_SHARE = 0.01
"""Of the accepted requests at most: p99 is a promise to the other 99."""
DISTURBED = 0.2
"""Share of the cores that others took, in the median of the figures used, from which on nothing is judged."""


class Bounds(NamedTuple):
    """The least that a figure has to be, and what it aims at."""

    floor: float
    aim: float
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One row: a figure beside the least that it has to be and what it aims at."""

    name: str
    floor: float | None
    aim: float | None
    value: float | None
    """None where it was not measured."""
    spread: tuple[float, float] | None
    """Smallest and largest of the rounds."""
    unit: str
    holds: bool | None
    """Whether the floor is kept, with all that the name says beside it; None where that was not measured, or others
    used the cores meanwhile."""
    reaches_aim: bool | None = None
    note: str = ""


Pair = tuple[Measurement, Measurement]
"""What is compared, of one round: ours, and what it is measured by."""


def goals(found: Sequence[Measurement]) -> list[Goal]:
    """Every row, measured or not."""
    unmeasured = Goal(
        name="the same on a GPU", floor=None, aim=None, value=None, spread=None, unit="", holds=None,
        note="unmeasured: this bench runs on CPU cores only",
    )  # fmt: skip
    return [
        _against(found, "mlflow", Bounds(5, 10, "×")),
        _against(found, "mlserver", Bounds(3, 5, "×")),
        _against(found, "kserve", Bounds(3, 5, "×")),
        _against(found, "litserve", Bounds(2, 4, "×")),
        _against(found, "bentoml", Bounds(2, 4, "×")),
        _against(found, "ray", Bounds(2, 4, "×")),
        *(_against_triton(found, count) for count in (1, 64)),
        *(_against_forward(found, workload) for workload in ("C", "D")),
        _poisson(found),
        _overload(found),
        unmeasured,
    ]


def by_round(found: Iterable[Measurement], **wanted: object) -> dict[int, Measurement]:
    """Measurements whose fields have these values, by round."""
    return {each.round: each for each in found if all(getattr(each, name) == value for name, value in wanted.items())}


def _against(found: Sequence[Measurement], peer: str, bounds: Bounds) -> Goal:
    """Throughput in JSON of each server's own form, C, 1 row."""
    wanted = {"workload": "C", "rows": 1, "encoding": "json", "mode": CLOSED, "generator": WRK, "load": CONNECTIONS[1]}
    pairs = _pairs(by_round(found, server=OURS, **wanted), by_round(found, server=peer, **wanted))
    return _judged(f"throughput over {SERVERS[peer].title}, C, 1 row, JSON", pairs, bounds)


def _against_triton(found: Sequence[Measurement], rows: int) -> Goal:
    """Throughput in V2 binary at no worse p99; by Triton's own generator where it speaks to both, else by wrk."""
    name = f"throughput over native Triton at no worse p99, C, {rows} row{'s' * (rows > 1)}, V2 binary"
    bounds = Bounds(1.0, 1.3, "×")
    for generator in (PERF_ANALYZER, WRK):
        wanted = {
            "workload": "C", "rows": rows, "encoding": "binary", "mode": CLOSED, "load": CONNECTIONS[rows],
            "generator": generator,
        }  # fmt: skip
        pairs = _pairs(by_round(found, server=OURS, **wanted), by_round(found, server="triton", **wanted))
        if pairs:
            ours, theirs = (median(pair[side].p99_ms for pair in pairs) for side in (0, 1))
            note = f"{generator}; p99 {ours:.2f} ms, Triton's {theirs:.2f} ms"
            return _judged(name, pairs, bounds, note=note, also=ours <= theirs)
    return _judged(name, [], bounds)


def _against_forward(found: Sequence[Measurement], workload: str) -> Goal:
    """Rows a second through the server, over those of bare calls with the same batch on the same core."""
    ours = by_round(
        found, server=OURS, workload=workload, rows=64, encoding="binary", mode=CLOSED, generator=WRK,
        load=CONNECTIONS[64],
    )  # fmt: skip
    bare = by_round(found, server=IN_PROCESS, workload=workload, rows=64, mode=FORWARD)
    name = f"served over in-process forward, {workload}, 64 rows, V2 binary"
    return _judged(name, _pairs(ours, bare), Bounds(75, 90, "%"))


def _poisson(found: Sequence[Measurement]) -> Goal:
    """The largest share of the closed loop's rate that keeps p99 within the bound when requests come at random."""
    name = f"Poisson rate at p99 ≤ {P99_BOUND_MS:.0f} ms over the closed loop's, C, 1 row, V2 binary"
    wanted = {"server": OURS, "workload": "C", "rows": 1, "encoding": "binary"}
    closed = by_round(found, mode=CLOSED, generator=WRK, load=CONNECTIONS[1], **wanted)
    pairs = []
    for at, top in closed.items():
        tried = [each for each in found if each.mode == POISSON and each.round == at and each.server == OURS]
        if tried:
            kept = max((each for each in tried if keeps_bound(each)), key=lambda each: each.load, default=None)
            # Where none was kept the rate is 0, of the last that was tried.
            pairs.append((replace(kept or tried[-1], requests_per_second=kept.load if kept else 0.0), top))
    return _judged(name, pairs, Bounds(70, 85, "%"))


def keeps_bound(measured: Measurement) -> bool:
    """Whether nothing was lost or refused and 99 of 100 answers came in time, counted from when they were due."""
    return measured.p99_ms <= P99_BOUND_MS and not measured.refused and not measured.broken


def _overload(found: Sequence[Measurement]) -> Goal:
    """Accepted requests within their deadline, the others told so at once, at ten times what the server can do."""
    name = (
        f"at {OVERLOAD_FACTOR}× overload: p99 of accepted ≤ {DEADLINE_MS:.0f} ms, of refusals < {REFUSAL_MS:.0f} ms, "
        "D, 1 row"
    )
    measured = [each for each in found if each.mode == OVERLOAD and each.server == OURS]
    if not measured:
        return _unmeasured(name, Bounds(DEADLINE_MS, DEADLINE_MS, " ms"))
    accepted = [each.p99_ms for each in measured]
    refusals = [refusal_p99(each) for each in measured]
    holds = all(
        each.requests_per_second > 0
        and each.p99_ms <= DEADLINE_MS
        and expired(each) <= EXPIRED_SHARE
        and refusal_p99(each) < REFUSAL_MS
        and not each.broken
        for each in measured
    )
    note = (
        f"p99 of refusals {median(refusals):.2f} ms (largest round {max(refusals):.2f}); "
        f"{max(expired(each) for each in measured):.1%} of the accepted expired; "
        f"answered {median(each.requests_per_second for each in measured):.0f} of {measured[0].load:.0f} a second"
    )
    judged = None if _disturbed(measured) else holds
    return Goal(
        name=name, floor=DEADLINE_MS, aim=DEADLINE_MS, value=round(median(accepted), 2),
        spread=(round(min(accepted), 2), round(max(accepted), 2)), unit=" ms", holds=judged, reaches_aim=judged,
        note=note + _disturbed(measured),
    )  # fmt: skip


def refusal_p99(measured: Measurement) -> float:
    """The largest p99 of the refusing statuses, in ms; 0 where nothing was refused."""
    statuses = measured.detail["statuses"]
    return max((float(statuses[code]["p99_ms"]) for code in REFUSALS if code in statuses), default=0.0)


def expired(measured: Measurement) -> float:
    """Share of the accepted requests that were not answered in time."""
    statuses = measured.detail["statuses"]
    answered, late = (statuses.get(code, {"count": 0})["count"] for code in ("200", EXPIRED))
    return float(late / (answered + late)) if late else 0.0


def _pairs(ours: dict[int, Measurement], theirs: dict[int, Measurement]) -> list[Pair]:
    return [(ours[at], theirs[at]) for at in sorted(ours.keys() & theirs.keys()) if theirs[at].requests_per_second]


def _judged(name: str, pairs: list[Pair], bounds: Bounds, *, note: str = "", also: bool = True) -> Goal:
    """Ours over theirs; in percent where the bounds are."""
    if not pairs:
        return _unmeasured(name, bounds)
    factor = 100 if bounds.unit == "%" else 1
    values = [factor * ours.requests_per_second / theirs.requests_per_second for ours, theirs in pairs]
    value = round(median(values), 3)  # a load is told to a tenth of a request
    disturbed = _disturbed([each for pair in pairs for each in pair])
    return Goal(
        name=name,
        floor=bounds.floor,
        aim=bounds.aim,
        value=value,
        spread=(round(min(values), 3), round(max(values), 3)),
        unit=bounds.unit,
        holds=None if disturbed else also and value >= bounds.floor,
        reaches_aim=None if disturbed else also and value >= bounds.aim,
        note=note + disturbed,
    )


def _disturbed(used: Sequence[Measurement]) -> str:
    """Why the figures say nothing; empty where they do."""
    share = median(each.foreign_cpu for each in used)
    return f" not judged: other processes took {share:.0%} of the cores" if share > DISTURBED else ""


def _unmeasured(name: str, bounds: Bounds) -> Goal:
    return Goal(
        name=name, floor=bounds.floor, aim=bounds.aim, value=None, spread=None, unit=bounds.unit, holds=None,
        note="not measured",
    )  # fmt: skip
