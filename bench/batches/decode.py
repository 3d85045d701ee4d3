"""Floor: every column of the input, batch by batch, on Arrow's threads, and dropped."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet as pq

from bench.batches.clock import timed


def run() -> int:
    """Rows that were read."""
    rows = 0
    for path in sorted(Path(sys.argv[1]).iterdir()):
        for batch in pq.ParquetFile(path, pre_buffer=True).iter_batches(16_384):
            rows += batch.num_rows
    return rows


if __name__ == "__main__":
    timed(run)
