"""Batch jobs beside their floors and a plain loop: `python -m bench.batch [--rows N]`.

All in processes of their own, one after the other, on the same rows, for two models: *small*, the example's bundle (32
hidden units, under a microsecond a row), and *wide*, the same with two layers of 512. One torch thread.

- *decode*: pyarrow reads every column of the input and drops it
- *forward*: transform and predict of rows that are in memory, as `Pipeline.infer_many` has them
- *slipway*: the job, whose own clock counts from the first row to the last, its start left out as theirs is
- *pandas*: what one writes in ten lines: `read_parquet` of a file, the model, `to_parquet`

Peak memory of the job is taken at 1× and 20× the rows. The figures go to `bench/results/batch.json` and `.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.contract import Env

RESULTS = Path(__file__).parent / "results"
FILE_ROWS, GROUP_ROWS = 250_000, 125_000
GOAL = 0.9
HIDDEN = 512
"""Units of the wide model's layers."""


def make(directory: Path, bundle: Path, rows: int) -> None:
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


def decode(directory: Path) -> dict[str, float]:
    """Every column, batch by batch, on Arrow's threads."""
    rows, started = 0, time.perf_counter()
    for path in sorted(directory.iterdir()):
        for batch in pq.ParquetFile(path, pre_buffer=True).iter_batches(16_384):
            rows += batch.num_rows
    return {"rows": rows, "seconds": time.perf_counter() - started}


def forward(directory: Path) -> dict[str, float]:
    """Rows of one file, again and again until there were as many as in all."""
    from services.inference.adapters.batch.columns import to_rows  # noqa: PLC0415

    pipeline = _pipeline()
    files = sorted(directory.iterdir())
    schema = pipeline.info.metadata.schema
    batches = [to_rows(batch, schema) for batch in pq.ParquetFile(files[0]).iter_batches(16_384)]
    rows, started = 0, time.perf_counter()
    for _ in files:
        rows += sum(len(scored.kept) for scored in pipeline.infer_many(batches))
    return {"rows": rows, "seconds": time.perf_counter() - started}


def pandas_loop(directory: Path, output: Path) -> dict[str, float]:
    """A file at a time, all of it in memory; nothing is checked, nothing is committed."""
    import pandas as pd  # noqa: PLC0415

    from services.inference.core.types import Rows  # noqa: PLC0415

    pipeline = _pipeline()
    names = list(pipeline.info.metadata.schema.names)
    rows, started = 0, time.perf_counter()
    for path in sorted(directory.iterdir()):
        frame = pd.read_parquet(path)
        (scored,) = pipeline.infer_many([Rows(frame[names].to_numpy())])
        frame["prediction"], frame["probability"] = scored.outputs["prediction"], scored.outputs["probability"]
        frame["model_version"], frame["inference_timestamp"] = pipeline.info.version, pd.Timestamp.now(tz="UTC")
        frame.to_parquet(output / path.name)
        rows += len(frame)
    return {"rows": rows, "seconds": time.perf_counter() - started}


def _pipeline() -> Any:
    """The model as a job has it, from the settings of this process's environment."""
    from services.inference.batch import load  # noqa: PLC0415
    from services.inference.batch_settings import BatchSettings  # noqa: PLC0415

    return load(BatchSettings())


def _job(bundle: Path, source: Path, output: Path, cache: Path) -> dict[str, float]:
    """The process as a pod runs it."""
    environment = {**os.environ, **_environment(bundle, source, output, cache)}
    done = subprocess.run(
        [sys.executable, "-m", "services.inference.batch"], env=environment, stdout=subprocess.PIPE, check=True
    )
    told = json.loads(done.stdout.splitlines()[-1])  # after the logs
    return {"rows": told["rows"], "seconds": told["rows"] / told["rowsPerSecond"], "peak_bytes": told["peakBytes"]}


def _environment(bundle: Path, source: Path, output: Path, cache: Path) -> dict[str, str]:
    return {
        Env.MODEL_NAME: "breast-cancer",
        Env.MODEL_URI: str(bundle),
        Env.CACHE_DIR: str(cache),
        Env.BATCH_INPUT: str(source),
        Env.BATCH_OUTPUT: str(output),
        Env.LOG_LEVEL: "error",
    }


def _alone(what: str, bundle: Path, source: Path, output: Path, cache: Path) -> dict[str, float]:
    """One of the others in a process of its own."""
    output.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **_environment(bundle, source, output, cache)}
    command = [sys.executable, "-m", "bench.batch", "--alone", what, str(source), str(output)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])  # after the logs
    return found


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


def measure(rows: int, rounds: int) -> dict[str, Any]:
    """All of it; figures are medians of the rounds."""
    from examples.breast_cancer.train import train  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="slipway-batch-") as scratch:
        place = Path(scratch)
        small = train(place / "bundle").directory
        make(place / "twentieth", small, rows // 20)
        make(place / "input", small, rows)
        models = {"small": small, "wide": widen(small, place / "wide-bundle")}
        before = os.getloadavg()[0]
        measured = {name: measure_model(place / name, bundle, place, rounds) for name, bundle in models.items()}
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, load {before:.1f} when it began",
        "rows": rows,
        "rounds": rounds,
        "goal": GOAL,
        "models": measured,
    }


def measure_model(place: Path, bundle: Path, inputs: Path, rounds: int) -> dict[str, Any]:
    """Rates of one model, and the job's peak memory at a twentieth of the rows and at all."""
    source, cache = inputs / "input", place / "cache"
    found: dict[str, list[float]] = {}
    small = _job(bundle, inputs / "twentieth", place / "twentieth", cache)["peak_bytes"]
    large = 0.0
    for number in range(rounds):
        for what in ("decode", "forward", "pandas"):
            told = _alone(what, bundle, source, place / what, cache)
            found.setdefault(what, []).append(told["rows"] / told["seconds"])
        told = _job(bundle, source, place / f"job-{number}", cache)
        found.setdefault("slipway", []).append(told["rows"] / told["seconds"])
        large = max(large, told["peak_bytes"])
    floor = [ours / min(a, b) for ours, a, b in zip(found["slipway"], found["decode"], found["forward"], strict=True)]
    return {
        "rows_per_second": {what: float(np.median(each)) for what, each in found.items()},
        "of_the_floor": float(np.median(floor)),
        "peak_bytes": [small, large],
    }


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
    for what in ("decode", "forward", "pandas", "slipway"):
        rates = [f"{each['rows_per_second'][what]:,.0f}" for each in models.values()]
        lines += [f"| {what} | {' | '.join(rates)} |"]
    shares = " | ".join(f"{each['of_the_floor']:.0%}" for each in models.values())
    lines.append(f"| slipway ÷ min(decode, forward), goal {figures['goal']:.0%} | {shares} |")
    peaks = [[size / 2**20 for size in each["peak_bytes"]] for each in models.values()]
    told = " | ".join(f"{small:,.0f} → {large:,.0f} (×{large / small:.2f})" for small, large in peaks)
    lines += [f"| peak memory, MiB, at {figures['rows'] // 20:,} → {figures['rows']:,} rows | {told} |", ""]
    return "\n".join(lines)


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.alone:
        what, *given = chosen.alone
        source, output = map(Path, given)
        alone = {
            "decode": lambda: decode(source),
            "forward": lambda: forward(source),
            "pandas": lambda: pandas_loop(source, output),
        }
        print(json.dumps({**alone[what](), "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
        return
    figures = measure(chosen.rows, chosen.rounds)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "batch.json").write_text(json.dumps(figures, indent=1) + "\n")
    (RESULTS / "batch.md").write_text(report(figures))
    print(report(figures))


if __name__ == "__main__":
    main()
