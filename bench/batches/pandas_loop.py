"""What one writes in ten lines: a file at a time, all of it in memory; nothing is checked, nothing is committed."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from bench.batches.clock import timed
from bench.batches.model import pipeline
from services.inference.core.types import Rows


def run() -> int:
    """Rows that were written."""
    model = pipeline()
    names = list(model.info.metadata.schema.names)
    rows = 0
    for path in sorted(Path(sys.argv[1]).iterdir()):
        frame = pd.read_parquet(path)
        (scored,) = model.infer_many([Rows(frame[names].to_numpy())])
        frame["prediction"], frame["probability"] = scored.outputs["prediction"], scored.outputs["probability"]
        frame["model_version"], frame["inference_timestamp"] = model.info.version, pd.Timestamp.now(tz="UTC")
        frame.to_parquet(Path(sys.argv[2]) / path.name)
        rows += len(frame)
    return rows


if __name__ == "__main__":
    pipeline()
    timed(run)
