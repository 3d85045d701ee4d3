"""The model behind every peer: the same files, one thread, the same call.

Imported inside the peers' own processes; needs nothing but numpy and what reads the model.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Predict = Callable[[Array], Array]

WARM_UP = (1, 1, 1, 64, 64, 64, 1, 64)
"""Rows of the first calls: TorchScript compiles during the first two of a shape."""


def load(directory: Path | None = None) -> Predict:
    """The model of `BENCH_ARTIFACT` as a function, float32 [rows, 32] → [rows, 1]."""
    root = directory or Path(os.environ["BENCH_ARTIFACT"])
    predict = _pickled(root / "model.pkl") if (root / "model.pkl").is_file() else _torchscript(root / "bundle/model.pt")
    for rows in WARM_UP:
        predict(np.zeros((rows, 32), np.float32))
    return predict


def together(predict: Predict, blocks: list[Array]) -> list[Array]:
    """Answer several requests with one call."""
    if len(blocks) == 1:
        return [predict(blocks[0])]
    answered = predict(np.concatenate(blocks))
    ends = np.cumsum([len(block) for block in blocks])[:-1]
    return np.split(answered, ends)


def _torchscript(path: Path) -> Predict:
    import torch  # noqa: PLC0415  # not every workload needs it

    torch.set_num_threads(1)
    module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    module.eval()

    def predict(rows: Array) -> Array:
        with torch.inference_mode():
            answer: Array = module(torch.from_numpy(rows)).numpy()
        return answer

    return predict


def _pickled(path: Path) -> Predict:
    model = pickle.loads(path.read_bytes())  # noqa: S301  # this harness wrote it

    def predict(rows: Array) -> Array:
        answer: Array = model.predict(rows).reshape(-1, 1)
        return answer

    return predict
