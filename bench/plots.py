"""Pictures of a record: throughput by server, latency by random load."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from bench.goals import CONNECTIONS, P99_BOUND_MS
from bench.measurement import CLOSED, POISSON, WRK, Measurement
from bench.servers import OURS, SERVERS
from bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from bench.record import Record

OURS_COLOUR, COLOUR = "#0b7285", "#adb5bd"


def draw(record: Record, directory: Path) -> list[Path]:
    """Write the PNG files that the record has figures for."""
    import matplotlib as mpl  # noqa: PLC0415  # a second of import, for the end of a run only

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  # after the choice of a canvas

    written = []
    for workload in WORKLOADS:
        cells = _cells(record, workload)
        if not cells:
            continue
        figure, axes = plt.subplots(1, len(cells), figsize=(4.6 * len(cells), 4), squeeze=False, layout="constrained")
        for ax, ((rows, encoding), found) in zip(axes[0], cells.items(), strict=True):
            _bars(ax, found)
            ax.set_title(f"{rows:,} row{'s' * (rows != 1)}, {encoding}", fontsize=10)
        figure.suptitle(f"{workload}: {WORKLOADS[workload].title} — requests/s, median and range of the rounds")
        written.append(directory / f"throughput-{workload}.png")
        figure.savefig(written[-1], dpi=110)
        plt.close(figure)
    random = [each for each in record.measurements if each.mode == POISSON and each.p99_ms != float("inf")]
    if random:
        figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
        _latencies(ax, random)
        written.append(directory / "poisson.png")
        figure.savefig(written[-1], dpi=110)
        plt.close(figure)
    return written


def _cells(record: Record, workload: str) -> dict[tuple[int, str], dict[str, list[float]]]:
    found: dict[tuple[int, str], dict[str, list[float]]] = {}
    for each in record.measurements:
        if (
            each.workload == workload
            and each.mode == CLOSED
            and each.generator == WRK
            and each.load == CONNECTIONS[each.rows]
        ):
            servers = found.setdefault((each.rows, each.encoding), {})
            servers.setdefault(each.server, []).append(each.requests_per_second)
    return dict(sorted(found.items(), key=lambda item: (item[0][1] != "json", item[0][0])))


def _bars(ax: Axes, found: dict[str, list[float]]) -> None:
    names = sorted(found, key=lambda name: median(found[name]))
    middle = [median(found[name]) for name in names]
    below = [value - min(found[name]) for name, value in zip(names, middle, strict=True)]
    above = [max(found[name]) - value for name, value in zip(names, middle, strict=True)]
    colours = [OURS_COLOUR if name == OURS else COLOUR for name in names]
    ax.barh([SERVERS[name].title for name in names], middle, xerr=[below, above], color=colours, ecolor="#495057")
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)


def _latencies(ax: Axes, random: list[Measurement]) -> None:
    for name in dict.fromkeys(each.server for each in random):
        chosen = sorted((each for each in random if each.server == name), key=lambda each: each.load)
        colour = OURS_COLOUR if name == OURS else COLOUR
        ax.scatter(
            [each.load for each in chosen], [each.p99_ms for each in chosen], label=SERVERS[name].title, color=colour
        )
    ax.axhline(P99_BOUND_MS, color="#c92a2a", linewidth=1, linestyle="--")
    ax.set(yscale="log", xlabel="requests/s at random times", ylabel="p99 in ms, from when due")
    ax.set_title("C, 1 row, V2 binary, open loop", fontsize=10)
    ax.legend()
