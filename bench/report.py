"""Of a record: a table, plots, and one page that holds everything."""

from __future__ import annotations

import base64
import html
from statistics import median
from typing import TYPE_CHECKING

from bench import plots
from bench.cores import FOREIGN_SHARE
from bench.measurement import CLOSED, FORWARD, OVERLOAD, POISSON, WRK, Measurement
from bench.servers import IN_PROCESS, OURS, SERVERS
from bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bench.record import Record

GENERATOR_BOUND = 0.95
"""Share of its core from which on the load generator, not the server, set the figure."""

Key = tuple[str, int, str, float, str]
"""Workload, rows, encoding, connections, generator: one line of the table."""


def write(record: Record) -> list[Path]:
    """Write latest.md, the plots and latest.html beside latest.json; the result is what was written."""
    directory = record.path.parent
    table = directory / "latest.md"
    table.write_text(markdown(record))
    drawn = plots.draw(record, directory)
    page = directory / "latest.html"
    page.write_text(_page(record, drawn))
    return [record.path, table, *drawn, page]


def markdown(record: Record) -> str:
    """The whole report as Markdown."""
    return (
        "\n\n".join(
            [
                "# Performance beside peers",
                _about(record),
                "## Goals\n\n" + goal_table(record),
                *(
                    _workload(record, name)
                    for name in WORKLOADS
                    if any(each.workload == name for each in record.measurements)
                ),
                _open_loops(record),
                _failures(record),
            ]
        ).replace("\n\n\n", "\n\n")
        + "\n"
    )


def title_of(server: str) -> str:
    """What people call a server."""
    return "in-process forward" if server == IN_PROCESS else SERVERS[server].title


def _about(record: Record) -> str:
    told, chosen = record.machine, record.settings
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    return (
        f"`{record.command}`, started {record.started}. {told['cpu']}, {told['cores']} cores, "
        f"{told['memory_gib']} GiB, Linux {told['kernel']}, {told['libc']}; GPU: {told['gpu']}. Servers on core(s) "
        f"{chosen['server_cores']}, load on {chosen['load_cores']}; {chosen['rounds']} rounds, {chosen['seconds']} s a "
        f"figure; medians with the rounds' smallest and largest.\n\nVersions: {versions}."
    )


def goal_table(record: Record) -> str:
    """One row for each goal."""
    lines = ["| goal | floor | aim | measured | rounds | holds |", "|---|---|---|---|---|---|"]
    for goal in record.goals:
        unit = goal.unit
        value = "–" if goal.value is None else f"**{goal.value:g}{unit}**"
        spread = "–" if goal.spread is None else f"{goal.spread[0]:g}–{goal.spread[1]:g}"
        floor, aim = ("–" if bound is None else f"{bound:g}{unit}" for bound in (goal.floor, goal.aim))
        holds = {None: "unmeasured", True: "yes", False: "**no**"}[goal.holds]
        aimed = " (aim reached)" if goal.reaches_aim else ""
        note = f"<br>{goal.note}" if goal.note else ""
        lines.append(f"| {goal.name}{note} | {floor} | {aim} | {value} | {spread} | {holds}{aimed} |")
    return "\n".join(lines)


def _workload(record: Record, name: str) -> str:
    found = [each for each in record.measurements if each.workload == name and each.mode in (CLOSED, FORWARD)]
    keys = sorted(
        {_key(each) for each in found if each.mode == CLOSED}, key=lambda key: (key[2], key[1], key[3], key[4])
    )
    parts = [f"## {name}: {WORKLOADS[name].title}"]
    for key in keys:
        _, rows, encoding, connections, generator = key
        clients = f"{connections:g} client{'s' * (connections != 1)}"
        heading = f"### {rows:,} row{'s' * (rows != 1)}, {encoding}, {clients}, {generator}"
        chosen = [each for each in found if _key(each) == key]
        bare = [each for each in found if each.mode == FORWARD and each.rows == rows] if generator == WRK else []
        parts.append(f"{heading}\n\n{_table(chosen + bare)}")
    return "\n\n".join(parts)


def _key(each: Measurement) -> Key:
    return (each.workload, each.rows, each.encoding, each.load, each.generator)


def _table(found: list[Measurement]) -> str:
    lines = [
        "| server | requests/s | rounds | p50 ms | p99 ms | ours ÷ it | per CPU second | ours ÷ it | notes |",
        "|---|---:|---|---:|---:|---:|---:|---:|---|",
    ]
    by_server: dict[str, list[Measurement]] = {}
    for each in found:
        by_server.setdefault(each.server, []).append(each)
    rates = {name: median(each.requests_per_second for each in rounds) for name, rounds in by_server.items()}
    efficiency = {name: median(each.per_cpu_second for each in rounds) for name, rounds in by_server.items()}
    for name in sorted(rates, key=lambda name: -rates[name]):
        rounds = by_server[name]
        told = [each.requests_per_second for each in rounds]
        p50, p99 = median(each.p50_ms for each in rounds), median(each.p99_ms for each in rounds)
        title = f"**{title_of(name)}**" if name == OURS else title_of(name)
        lines.append(
            f"| {title} | {rates[name]:,.0f} | {min(told):,.0f}–{max(told):,.0f} | {p50:.2f} | {p99:.2f} | "
            f"{_ratio(rates, name)} | {efficiency[name]:,.0f} | {_ratio(efficiency, name)} | {_notes(rounds)} |"
        )
    return "\n".join(lines)


def _ratio(figures: dict[str, float], name: str) -> str:
    return f"{figures[OURS] / figures[name]:.2f}" if OURS in figures and name != OURS and figures[name] else "–"


def _notes(rounds: Iterable[Measurement]) -> str:
    rounds = list(rounds)
    said = [
        (max(each.refused for each in rounds), "{:d} refused"),
        (max(each.broken for each in rounds), "{:d} without an answer"),
        (max(each.load_cpu for each in rounds) > GENERATOR_BOUND, "the generator was at its limit"),
        (max(each.foreign_cpu for each in rounds) > FOREIGN_SHARE, "others used the cores"),
    ]
    return "; ".join(text.format(told) for told, text in said if told)


def _open_loops(record: Record) -> str:
    found = [each for each in record.measurements if each.mode in (POISSON, OVERLOAD)]
    if not found:
        return ""
    lines = [
        "## Requests at random times\n\nOpen loop, latency from the moment at which a request was due. *Paused*: the "
        "machine ran something else on the generator's core, and arrivals stood still.\n",
        "| server | workload | load | round | offered/s | answered/s | p50 ms | p99 ms | refused | their p99 | lost "
        "| paused ms |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for each in sorted(found, key=lambda each: (each.mode, each.server, each.round, -each.load)):
        statuses = {code: told for code, told in each.detail["statuses"].items() if code not in ("200", "0")}
        refusals = "; ".join(f"{code}: {told['p99_ms']:.2f}" for code, told in statuses.items()) or "–"
        lines.append(
            f"| {title_of(each.server)} | {each.workload} | {each.mode} | {each.round} | {each.load:,.0f} | "
            f"{each.requests_per_second:,.0f} | {each.p50_ms:.2f} | {each.p99_ms:.2f} | {each.refused} | {refusals} | "
            f"{each.broken} | {each.detail['away_ms']:.0f} |"
        )
    return "\n".join(lines)


def _failures(record: Record) -> str:
    if not record.failures:
        return ""
    return "## Without figures\n\n" + "\n".join(
        f"- {what}: {' '.join(why.split())[:400]}" for what, why in record.failures.items()
    )


def _page(record: Record, drawn: list[Path]) -> str:
    """One file: style, tables and pictures inside."""
    body = "\n".join(_html_of(markdown(record)))
    pictures = "\n".join(
        f'<img alt="{path.stem}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
        for path in drawn
    )
    return _PAGE.replace("BODY", body).replace("PICTURES", pictures)


def _html_of(text: str) -> Iterable[str]:
    """Just the Markdown that this module writes: headings, tables, lists, paragraphs, bold and code."""
    in_table = False
    for line in text.splitlines():
        is_row = line.startswith("|")
        if in_table and not is_row:
            yield "</table>"
        if is_row and not in_table:
            yield "<table>"
        if is_row and not line.startswith("|---"):
            cell = "td" if in_table else "th"
            yield (
                "<tr>"
                + "".join(f"<{cell}>{_inline(part)}</{cell}>" for part in line.strip("| ").split(" | "))
                + "</tr>"
            )
        elif line.startswith("#"):
            level = len(line) - len(line.lstrip("#"))
            yield f"<h{level}>{_inline(line.lstrip('# '))}</h{level}>"
        elif line and not is_row:
            yield f"<p>{_inline(line)}</p>"
        in_table = is_row
    if in_table:
        yield "</table>"


def _inline(text: str) -> str:
    escaped = html.escape(text).replace("&lt;br&gt;", "<br>")
    for mark, tag in (("**", "b"), ("`", "code")):
        parts = escaped.split(mark)
        escaped = "".join(
            f"<{tag}>{part}</{tag}>" if at % 2 and at < len(parts) - 1 else part for at, part in enumerate(parts)
        )
    return escaped


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Slipway beside its peers</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { border: 1px solid #d0d7de; padding: .25rem .6rem }
th { background: #f6f8fa; text-align: left } td { font-variant-numeric: tabular-nums } img { max-width: 100% }
</style>
BODY
PICTURES
</html>
"""
