"""Floor: transform and predict of one file's rows, in memory, again and again until there were as many as in all."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.batches.clock import timed
from bench.batches.model import batches, pipeline
from services.inference.adapters.batch.columns import to_rows

if __name__ == "__main__":
    files = sorted(Path(sys.argv[1]).iterdir())
    model = pipeline()
    held = [to_rows(batch, model.info.metadata.schema) for batch in batches(files[0])]
    timed(lambda: sum(len(scored.kept) for _ in files for scored in model.infer_many(held)))
