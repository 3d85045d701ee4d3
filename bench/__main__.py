"""`python -m bench`: our service beside its peers, on this machine, in one run.

1. environments and artifacts are made where they are missing; from then on nothing needs the network
2. servers run one at a time on one set of cores, the load generator on another
3. figures go to latest.json after every server, table, plots and page at the end, also of an interrupted run
"""

from __future__ import annotations

import argparse
import datetime as dt
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench import environments, report
from bench.cores import Cores
from bench.goals import CONNECTIONS, goals
from bench.measure import Plan, Session
from bench.processes import BenchError, adopt_orphans
from bench.record import Record, commit_of, machine, versions
from bench.servers import FLOOR, OURS, SERVERS
from bench.workloads import WORKLOADS, artifact, is_built

if TYPE_CHECKING:
    from types import FrameType

RESULTS = environments.HERE / "results"
"""Of whole runs: they are published."""
PARTIAL = environments.ROOT / "build" / "bench"
"""Of runs that leave anything out: a quick look does not replace what is published."""
ROUNDS, SECONDS = 3, 5
LEAST_CORES = 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the result is its exit code, 1 where a floor is missed or a peer failed."""
    chosen = _parser().parse_args(arguments)
    if chosen.list:
        _list()
        return 0
    try:
        return _again(Path(chosen.report)) if chosen.report else _run(chosen)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; what was measured is kept, --continue goes on from it", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    peers = ",".join(name for name in SERVERS if name not in (OURS, FLOOR))
    parser.add_argument("--list", action="store_true", help="servers, workloads and what is there already")
    parser.add_argument(
        "--only", default=peers, metavar="PEERS", help=f"these peers beside ours: {peers}; none: an empty text"
    )
    parser.add_argument("--workloads", default="C,A,B,D", help="default %(default)s")
    parser.add_argument("--rows", default=",".join(map(str, CONNECTIONS)), help="default %(default)s")
    parser.add_argument("--encodings", default="json,binary", help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default %(default)s")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of each figure, default %(default)s")
    parser.add_argument("--server-cores", default="0", help="as taskset writes them, default %(default)s")
    parser.add_argument("--load-cores", default="1", help="default %(default)s")
    parser.add_argument("--source", metavar="DIR", help="directory with our services/; default: a copy of HEAD's")
    parser.add_argument(
        "--patience",
        type=float,
        default=20.0,
        help="seconds to wait before a figure while others use the cores, default %(default)s",
    )
    parser.add_argument("--no-open-loop", action="store_true", help="leave Poisson and overload out")
    parser.add_argument("--results", metavar="DIR", help="default bench/results, of partial runs build/bench")
    parser.add_argument(
        "--continue", dest="go_on", action="store_true", help="keep what the results hold, measure the rest"
    )
    parser.add_argument(
        "--report", metavar="DIR", help="measure nothing, write table, plots and page of a directory again"
    )
    return parser


def _list() -> None:
    print("servers")
    for server in SERVERS.values():
        there = "" if not server.environment or environments.is_ready(server.environment) else "(not installed yet)"
        print(f"  {server.name:<10} {server.title:<24} {', '.join(server.protocols):<13} {there}")
    print("workloads")
    for workload in WORKLOADS.values():
        there = "" if is_built(workload.name, environments.cache()) else "(not built yet)"
        print(f"  {workload.name}  {workload.title:<40} rows {', '.join(map(str, workload.rows)):<12} {there}")


def _again(directory: Path) -> int:
    record = Record.read(directory / "latest.json")
    record.goals = goals(record.measurements)
    record.write()
    return _finish(record)


def _run(chosen: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _interrupt)  # ends as Ctrl-C does, with every child
    adopt_orphans()
    servers = (OURS, *_names(chosen.only, SERVERS, "peer"), FLOOR)
    plan = Plan(
        servers=tuple(dict.fromkeys(servers)),
        workloads=_names(chosen.workloads, WORKLOADS, "workload"),
        rows=tuple(int(each) for each in _names(chosen.rows, {str(rows): rows for rows in CONNECTIONS}, "rows")),
        encodings=_names(chosen.encodings, {"json": 0, "binary": 0}, "encoding"),
        rounds=chosen.rounds,
        seconds=chosen.seconds,
        cores=Cores(server=chosen.server_cores, load=chosen.load_cores, patience=chosen.patience),
        source=_source(chosen.source),
        open_loop=not chosen.no_open_loop,
    )
    environments.require_programs()
    for environment in dict.fromkeys(("perf_analyzer", *(SERVERS[name].environment for name in plan.servers))):
        if environment:
            environments.ensure(environment)
    _build(plan)
    record = _record(plan, chosen)
    try:
        Session(plan=plan, record=record).run()
    finally:
        record.write()
        if record.measurements:
            report.write(record)
    return _finish(record)


def _names(text: str, known: object, what: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name for name in text.split(",") if name))
    allowed = list(known)  # type: ignore[call-overload]
    if unknown := [name for name in names if name not in allowed]:
        raise BenchError(f"{what} {', '.join(unknown)} → known are {', '.join(allowed)} → choose of them")
    return names


def _source(given: str | None) -> Path:
    """The directory with `services/`: the caller's, or HEAD's, so that edits beside a run do not change it."""
    if given is not None:
        source = Path(given).resolve()
        if not (source / "services" / "inference" / "main.py").is_file():
            raise BenchError(
                f"{source}: it has no services/inference/main.py → ours is started from it → correct --source"
            )
        return source
    target = environments.cache() / "snapshot" / commit_of(None)
    if not target.is_dir():
        scratch = target.with_suffix(".part")
        scratch.mkdir(parents=True, exist_ok=True)
        command = ["git", "archive", "HEAD", "services"]
        archive = subprocess.run(command, cwd=environments.ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "--extract", "--directory", str(scratch)], input=archive, check=True)
        scratch.rename(target)
    return target


def _build(plan: Plan) -> None:
    for name in plan.workloads:
        if is_built(name, environments.cache()):
            continue
        target = artifact(name, environments.cache())
        print(f"▸ workload {name}: {WORKLOADS[name].title}", flush=True)
        command = [sys.executable, "-W", "ignore", "-m", "bench.workloads", str(target)]
        done = subprocess.run(command, cwd=environments.ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"workload {name} cannot be built:\n{done.stderr[-2000:]}")


def _record(plan: Plan, chosen: argparse.Namespace) -> Record:
    whole = (
        set(plan.servers) == set(SERVERS)
        and set(plan.workloads) == set(WORKLOADS)
        and set(plan.rows) == set(CONNECTIONS)
        and len(plan.encodings) > 1
        and plan.open_loop
        and plan.rounds >= ROUNDS
        and plan.seconds >= SECONDS
    )
    path = Path(chosen.results or (RESULTS if whole else PARTIAL)).resolve() / "latest.json"
    record = Record(
        path=path,
        command=shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        started=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        settings={
            "rounds": plan.rounds,
            "seconds": plan.seconds,
            "server_cores": plan.cores.server,
            "load_cores": plan.cores.load,
            "whole": whole,
        },
        machine=machine(),
        versions=versions(list(plan.servers), commit_of(plan.source if chosen.source else None)),
    )
    if chosen.go_on and path.is_file():
        before = Record.read(path)
        record.command, record.started = f"{before.command}; {record.command}", before.started
        record.measurements = before.measurements
        record.versions = before.versions | record.versions
    return record


def _finish(record: Record) -> int:
    for path in report.write(record):
        print(f"  {path}")
    print(report.goal_table(record))
    for what, why in record.failures.items():
        print(f"✗ {what}: {why.splitlines()[0]}")
    return int(bool(record.failures) or any(goal.holds is False for goal in record.goals))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
