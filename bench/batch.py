"""Batch jobs beside their floors and their peers: `python -m bench.batch [--rows N] [--rounds N]`.

All in processes of their own (`bench/batches`), one after the other, on the same rows, for two models: *small*, the
example's bundle (32 hidden units, under a microsecond a row), and *wide*, the same with two layers of 512. One torch
thread.

- *decode*, *forward*, *write*: the stages alone, each with all cores to itself
- *slipway*: the job, whose own clock counts from the first row to the last, its start left out as theirs is;
  *slipway, id only* passes one of 31 columns through
- *pandas*, *Ray Data*, *spark_udf*: the peers; all columns are passed through

Three stages on two cores are not only as slow as the slowest of them: *what the cores can do* is all of the cores over
the processor time that a row takes in the three stages alone.

What the peers predict is compared with the job's, row for row. Peak memory is taken at two parts and at forty. The
figures go to `bench/results/batch.json` and `.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from bench import environments
from bench.cores import Cores
from bench.processes import BenchError
from services.contract import BATCH_MODULE, Env

if TYPE_CHECKING:
    from collections.abc import Mapping

RESULTS = Path(__file__).parent / "results"
FILE_ROWS, GROUP_ROWS = 250_000, 125_000
GOAL = 0.9
HIDDEN = 512
"""Units of the wide model's layers."""
SAME = 1e-6
"""How far a probability, a float32, may be from another's: the peers multiply other numbers of rows at once."""
FEW_PARTS, MANY_PARTS = 2, 40
"""Of a file each, for the peak memory."""

FLOORS = ("decode", "forward", "write")
PEERS: Mapping[str, tuple[str, str]] = {
    "pandas": ("pandas_loop", ""),
    "Ray Data": ("ray_data", ""),
    "spark_udf": ("spark", "spark"),
}
"""Modules of the peers, and their environments; the project's own where empty."""
OURS, OURS_ID = "slipway", "slipway, id only"


class Place(NamedTuple):
    """Where one model is measured."""

    bundle: Path
    source: Path
    scratch: Path
    cores: Cores
    """Of this machine; before each figure they are waited for."""


def make(directory: Path, bundle: Path, rows: int) -> Path:
    """Files of a quarter million rows: an id and the model's features, scattered around the golden rows."""
    golden = [row["features"] for row in json.loads((bundle / "golden.json").read_text())["rows"]]
    names = list(golden[0])
    base = np.array([list(row.values()) for row in golden])
    chance = np.random.default_rng(0)
    directory.mkdir(parents=True)
    for number, start in enumerate(range(0, rows, FILE_ROWS)):
        count = min(FILE_ROWS, rows - start)
        values = base[chance.integers(0, len(base), count)] * chance.uniform(0.9, 1.1, (count, 1))
        columns = {name: values[:, at] for at, name in enumerate(names)}
        table = pa.table({"id": np.arange(start, start + count), **columns})
        pq.write_table(table, directory / f"{number:04}.parquet", row_group_size=GROUP_ROWS)
    return directory


def repeat(directory: Path, source: Path, files: int) -> Path:
    """So many names of the first file."""
    directory.mkdir()
    first = min(source.iterdir())
    for number in range(files):
        (directory / f"{number:04}.parquet").hardlink_to(first)
    return directory


def widen(bundle: Path, wide: Path) -> Path:
    """The bundle with a model of as many inputs and more to compute."""
    import torch  # noqa: PLC0415

    shutil.copytree(bundle, wide)
    width = len(json.loads((bundle / "transformer.json").read_text())["columns"])
    torch.manual_seed(1)
    layers = [torch.nn.Linear(width, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.ReLU()]
    module = torch.nn.Sequential(*layers, torch.nn.Linear(HIDDEN, 1)).eval()
    torch.jit.trace(module, torch.zeros(1, width)).save(wide / "model.pt")  # type: ignore[no-untyped-call]
    return wide


def job(place: Place, output: Path, settings: Mapping[str, str] | None = None) -> dict[str, float]:
    """The process as a pod runs it."""
    environment = {**_environment(place, output), **(settings or {})}
    told = _run(place, [sys.executable, "-m", BATCH_MODULE], environment)
    return {**told, "seconds": told["rows"] / told["rowsPerSecond"]}


def alone(module: str, place: Place, output: Path, environment: str = "") -> dict[str, float]:
    """A floor or a peer."""
    output.mkdir(parents=True)
    python = str(environments.python_of(environment))
    command = [python, "-m", f"bench.batches.{module}", str(place.source), str(output), str(place.bundle)]
    return _run(place, command, _environment(place, output))


def _run(place: Place, command: list[str], given: Mapping[str, str]) -> dict[str, Any]:
    """What the process told, and the share of the cores that others took meanwhile."""
    environment = {**os.environ, "PYTHONPATH": str(environments.ROOT), "PYSPARK_PYTHON": command[0], **given}
    place.cores.wait_for_quiet(None)
    before, own = place.cores.sample(None), _children()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise BenchError(f"{command[2]} ended with {done.returncode} → see above → run the same command again")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])  # after the logs
    now = place.cores.sample(None)
    busy = now.ours.processes - before.ours.processes
    return {**told, "others": max(0.0, busy - (_children() - own)) / ((now.at - before.at) * _cores())}


def _children() -> float:
    """Processor seconds of the processes that were waited for."""
    used = os.times()
    return used.children_user + used.children_system


def _environment(place: Place, output: Path) -> dict[str, str]:
    return {
        Env.MODEL_NAME: "breast-cancer",
        Env.MODEL_URI: str(place.bundle),
        Env.CACHE_DIR: str(place.scratch / "cache"),
        Env.BATCH_INPUT: str(place.source),
        Env.BATCH_OUTPUT: str(output),
        Env.LOG_LEVEL: "error",
    }


def difference(ours: Path, theirs: Path) -> float:
    """How far two tables' probabilities are apart at most; `BenchError` where that is much, or the rows are others."""
    manifest = json.loads((ours / "_manifest.json").read_text())
    first, second = (
        ds.dataset(paths).to_table(["id", "probability"]).sort_by("id")
        for paths in (
            [str(ours / part["key"]) for part in manifest["parts"]],
            sorted(map(str, theirs.rglob("*.parquet"))),
        )
    )
    if not first["id"].equals(second["id"]):
        raise BenchError(f"{theirs.name}: {len(second)} rows of {len(first)}, or others → each row once → see its code")
    most = float(np.abs(first["probability"].to_numpy() - second["probability"].to_numpy()).max())
    if not most <= SAME:
        raise BenchError(f"{theirs.name}: probabilities {most} apart → {SAME} at most → see its code")
    return most


def measure(rows: int, rounds: int, patience: float) -> dict[str, Any]:
    """All of it; figures are medians of the rounds."""
    from examples.breast_cancer.train import train  # noqa: PLC0415

    for _, environment in PEERS.values():
        if environment:
            environments.ensure(environment)
    with tempfile.TemporaryDirectory(prefix="slipway-batch-") as made:
        scratch = Path(made)
        small = train(scratch / "bundle").directory
        source = make(scratch / "input", small, rows)
        models = {"small": small, "wide": widen(small, scratch / "wide-bundle")}
        every = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        cores = Cores(server=every, load=every, patience=patience)
        measured = {
            name: measure_model(Place(bundle, source, scratch / name, cores), rounds) for name, bundle in models.items()
        }
        peaks = measure_memory(Place(small, source, scratch / "memory", cores))
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{_cores()} cores, {platform.machine()}",
        "rows": rows,
        "rounds": rounds,
        "goal": GOAL,
        "models": measured,
        "peak_bytes": peaks,
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def measure_model(place: Place, rounds: int) -> dict[str, Any]:
    """Rates of one model, and shares of the floors."""
    found: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {}
    others: list[float] = []
    apart = dict.fromkeys(PEERS, 0.0)
    for number in range(rounds):
        here = place.scratch / str(number)
        floors = {what: alone(what, place, here / what) for what in FLOORS}
        told = {
            **floors,
            OURS: job(place, here / "job"),
            OURS_ID: job(place, here / "job-id", {Env.BATCH_PASSTHROUGH: "id"}),
        }
        for what, (module, environment) in PEERS.items():
            told[what] = alone(module, place, here / module, environment)
            answers = here / module / "all" if what == "spark_udf" else here / module
            apart[what] = max(apart[what], difference(here / "job", answers))
        shutil.rmtree(here)
        others.append(max(told[what]["others"] for what in (*FLOORS, OURS, OURS_ID)))
        rates = {what: each["rows"] / each["seconds"] for what, each in told.items()}
        limit = _cores() / sum(each["processor"] / each["rows"] for each in floors.values())
        for what, rate in {**rates, "what the cores can do": limit}.items():
            found.setdefault(what, []).append(rate)
            print(f"{place.scratch.name}, round {number + 1}, {what}: {rate:,.0f} rows/s", flush=True)
        floor = min(rates["decode"], rates["forward"])
        slowest = min(floor, rates["write"], limit)
        for what, share in (
            (f"{OURS} ÷ min(decode, forward)", rates[OURS] / floor),
            (f"{OURS} ÷ min(decode, forward, write, what the cores can do)", rates[OURS] / slowest),
            (f"{OURS_ID} ÷ min(decode, forward)", rates[OURS_ID] / floor),
        ):
            shares.setdefault(what, []).append(share)
    return {
        "rows_per_second": {what: float(np.median(each)) for what, each in found.items()},
        "shares": {what: float(np.median(each)) for what, each in shares.items()},
        "others": float(np.median(others)),
        "apart": apart,
    }


def measure_memory(place: Place) -> list[float]:
    """Peak bytes of a job of few parts and of one of many, all columns passed through."""
    place.scratch.mkdir()
    peaks = []
    for parts in (FEW_PARTS, MANY_PARTS):
        source = repeat(place.scratch / f"in-{parts}", place.source, parts)
        output = place.scratch / f"out-{parts}"
        peaks.append(job(place._replace(source=source), output, {Env.BATCH_PART_ROWS: str(FILE_ROWS)})["peakBytes"])
        shutil.rmtree(output)
    return peaks


def report(figures: dict[str, Any]) -> str:
    """The figures as a page."""
    models = figures["models"]
    lines = [
        "# Batch jobs",
        "",
        f"{figures['at']}, {figures['machine']}; {figures['rows']:,} rows of 31 columns, all of them passed through; "
        f"rounds: {figures['rounds']}, medians. `python -m bench.batch` says what each line is.",
        "",
        "| rows a second | " + " | ".join(models) + " |",
        "|---|" + "---|" * len(models),
    ]
    for what in (*FLOORS, "what the cores can do", OURS, OURS_ID, *PEERS):
        rates = [f"{each['rows_per_second'][what]:,.0f}" for each in models.values()]
        lines.append(f"| {what} | {' | '.join(rates)} |")
    lines += ["", f"| goal {figures['goal']:.0%} | {' | '.join(models)} |", "|---|" + "---|" * len(models)]
    for what in next(iter(models.values()))["shares"]:
        shares = [f"{each['shares'][what]:.0%}" for each in models.values()]
        lines.append(f"| {what} | {' | '.join(shares)} |")
    taken = " | ".join(f"{each['others']:.0%}" for each in models.values())
    lines.append(f"| what others took of the cores meanwhile, at most | {taken} |")
    few, many = (size / 2**20 for size in figures["peak_bytes"])
    apart = max(each for model in models.values() for each in model["apart"].values())
    return "\n".join(
        [
            *lines,
            "",
            f"Peak memory, small model: {few:,.0f} MiB at {FEW_PARTS} parts of {FILE_ROWS:,} rows, {many:,.0f} MiB "
            f"at {MANY_PARTS} (×{many / few:.2f}). The peers answer alike: probabilities are {apart:.1g} apart.",
            "",
        ]
    )


def main() -> int:
    """Measure and write the results; the result is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patience", type=float, default=20.0, help="seconds to wait for others to leave the cores")
    chosen = parser.parse_args()
    try:
        figures = measure(chosen.rows, chosen.rounds, chosen.patience)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "batch.json").write_text(json.dumps(figures, indent=1) + "\n")
    (RESULTS / "batch.md").write_text(report(figures))
    print(report(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
