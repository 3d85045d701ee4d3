"""How each of them is run and timed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def timed(work: Callable[[], int]) -> None:
    """Do it; what it counts in rows, the seconds and this process's seconds of processor go to standard output."""
    started, used = time.perf_counter(), time.process_time()
    rows = work()
    seconds, processor = time.perf_counter() - started, time.process_time() - used
    print(json.dumps({"rows": rows, "seconds": seconds, "processor": processor}))


def told(source: Path, seconds: float) -> None:
    """All rows of the input in so many seconds, to standard output."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    print(json.dumps({"rows": sum(pq.read_metadata(path).num_rows for path in source.iterdir()), "seconds": seconds}))
