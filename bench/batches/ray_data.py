"""Ray Data's own `map_batches`: the bundle as MLflow's python_function in one actor, parquet in and out."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path

import pandas as pd
import ray
import torch

from bench.batches.clock import told
from services.inference.adapters.batch.columns import TIMESTAMP
from services.inference.runtimes.bundle import BundleRuntime
from services.inference.runtimes.mlflow_loader import BundleFunction

BATCH_ROWS = 16_384
"""As the job's own; with Ray's 1,024 it took longer."""


class Model:
    """An actor's state."""

    def __init__(self, bundle: str) -> None:
        torch.set_num_threads(1)
        self._function = BundleFunction(BundleRuntime.read(Path(bundle)))

    def __call__(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The columns, and ours."""
        scored = pd.concat([frame, self._function.predict(frame)], axis=1)
        return scored.assign(model_version="1", inference_timestamp=pd.Timestamp.now(tz="UTC"))


def run(source: Path, output: Path) -> float:
    """One dataset, lazily; seconds from the first batch that the model had: before it, a process and a model start."""
    ray.data.read_parquet(str(source)).map_batches(
        Model,
        fn_constructor_args=(sys.argv[3],),
        batch_format="pandas",
        batch_size=BATCH_ROWS,
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=1,
    ).write_parquet(str(output))
    ended = pd.Timestamp.now(tz="UTC")
    began = min(pd.read_parquet(path, columns=[TIMESTAMP])[TIMESTAMP].min() for path in output.iterdir())
    return float((ended - began).total_seconds())


if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with tempfile.TemporaryDirectory(prefix="ray-") as scratch:
        ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False, _temp_dir=scratch)
        ray.data.DataContext.get_current().enable_progress_bars = False
        source = Path(sys.argv[1])
        told(source, run(source, Path(sys.argv[2])))
        ray.shutdown()
