"""Between numpy rows and a torch module: forward, activation, threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from services.inference.core.errors import PredictionFailed
from services.inference.core.schema import Task

if TYPE_CHECKING:
    from services.inference.core.types import Array, Outputs, Rows

_MATRIX = 2


def run_module(module: Any, rows: Rows) -> Array:
    """Forward of float32 [rows, features]; the result is [rows] or [rows, k]."""
    import torch  # noqa: PLC0415  # loaded with the model; a lookup from then on

    with torch.inference_mode():
        result = module(torch.from_numpy(np.ascontiguousarray(rows.numbers, dtype=np.float32)))
    if not isinstance(result, torch.Tensor):
        raise PredictionFailed(
            f"the module returned a {type(result).__name__}", "it returns one tensor", "return the tensor of scores"
        )
    raw: Array = result.numpy(force=True)
    return raw[:, 0] if raw.ndim == _MATRIX and raw.shape[1] == 1 else raw


def results(raw: Array, task: Task, *, logits: bool, threshold: float | None) -> Outputs:
    """Named outputs of the module's result.

    Probabilities are made in float64 and rounded once to float32; the threshold applies to the
    rounded value, the one that the caller sees.
    """
    if task is Task.REGRESSION:
        return {"prediction": _dimensions(raw, 1)}
    scores = raw.astype(np.float64)
    if task is Task.BINARY:
        if scores.ndim == _MATRIX and scores.shape[1] == 2:  # noqa: PLR2004  # one column per class, the second is positive
            scores = _softmax(scores)[:, 1] if logits else scores[:, 1]
        elif logits:
            scores = _sigmoid(scores)
        probability = _dimensions(scores, 1).astype(np.float32)
        return {"probability": probability, "prediction": (probability >= np.float32(threshold or 0)).astype(np.int64)}
    scores = _dimensions(scores, _MATRIX)
    probabilities = (_softmax(scores) if logits else scores).astype(np.float32)
    return {
        "probability": probabilities.max(axis=1),
        "prediction": probabilities.argmax(axis=1).astype(np.int64),
        "probabilities": probabilities,
    }


def _sigmoid(values: Array) -> Array:
    result: Array = 1.0 / (1.0 + np.exp(-np.clip(values, -700.0, 700.0)))  # beyond 709 exp leaves float64
    return result


def _softmax(values: Array) -> Array:
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    result: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def _dimensions(values: Array, wanted: int) -> Array:
    if values.ndim != wanted:
        raise PredictionFailed(
            f"the module's result has shape {list(values.shape)}",
            f"it has {wanted} dimensions here",
            "correct the module",
        )
    return values
