"""The other floor: the model in this very process, as fast as Python can call it.

`python -m bench.forward ARTIFACT ROWS SECONDS` writes one line of JSON: calls a second, p50 and p99 in ms, and
the processor time taken in seconds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from bench.openloop import percentile
from bench.peers.served import load


def main(directory: Path, rows: int, seconds: float) -> dict[str, float]:
    """Call with the same rows again and again."""
    predict = load(directory)
    inputs = np.load(directory / "inputs.npy")[:rows].copy()
    for _ in range(5):
        predict(inputs)
    taken: list[float] = []
    started = now = time.perf_counter()
    while now - started < seconds:
        predict(inputs)
        before, now = now, time.perf_counter()
        taken.append(now - before)
    return {
        "requests_per_second": len(taken) / (now - started),
        "p50_ms": percentile(taken, 50) * 1e3,
        "p99_ms": percentile(taken, 99) * 1e3,
        "cpu_seconds": time.process_time(),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
