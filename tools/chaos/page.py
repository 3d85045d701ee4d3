"""The report of a run as a page. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def page(report: Mapping[str, Any]) -> str:
    """Markdown of `docs/chaos.json`."""
    kills, moved = report["kills"], report["rebalances"]
    rows = [
        ("messages, keyed", f"{report['messages']:,}"),
        ("SIGKILLs of workers", kills["worker"]),
        ("SIGKILLs of the broker", kills["broker"]),
        ("workers stopped for longer than their session, then woken", report["zombies"]),
        ("workers that joined, and left in order, besides", f"{moved['joined']}, {moved['left']}"),
        ("workers that ended by themselves and were started again", report["restarts"]),
        ("**lost**", report["lost"]),
        ("**answered twice**", report["duplicated"]),
        ("**out of their key's order**", report["out_of_order"]),
        ("wrong answers", report["wrong"]),
        ("dead letters", f"{report['dead_letters']:,}"),
        ("seconds", f"{report['seconds']:.0f}"),
    ]
    table = "\n".join(f"| {what} | {value} |" for what, value in rows)
    return f"""# Chaos

`make chaos` sends keyed messages through workers of a stream while these, and the broker, are killed, stopped and
joined by others, then reads output and dead letters as a `read_committed` reader does. As measured, by
`python -m tools.chaos` with seed {report["seed"]} on {report["machine"]}; the same figures are in
[chaos.json](chaos.json).

| | |
|---|---|
{table}
"""
