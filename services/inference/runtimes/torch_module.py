"""Between numpy rows and a torch module: forward, activation, threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from services.inference.core.errors import PredictionFailed
from services.inference.core.schema import Task

if TYPE_CHECKING:
    from services.inference.core.types import Array, Outputs

_MATRIX = 2


class TorchModule:
    """A torch module that takes and gives numpy arrays, on the CPU or one GPU.

    A batch that does not fit the GPU's memory is halved until it does.
    """

    def __init__(self, module: Any, device: str = "cpu") -> None:
        self._module = module
        self._device = device

    def __call__(self, *blocks: Array) -> list[tuple[str, Array]]:
        """Forward; the results with their names, empty where the module does not name them."""
        import torch  # noqa: PLC0415  # loaded with the model; a lookup from then on

        try:
            with torch.inference_mode():
                tensors = [torch.from_numpy(b if b.flags.writeable else b.copy()).to(self._device) for b in blocks]
                return _named(self._module(*tensors))
        except torch.OutOfMemoryError:
            half = len(blocks[0]) // 2
            if not half:
                raise
        torch.cuda.empty_cache()
        first, second = (self(*[block[part] for block in blocks]) for part in (slice(half), slice(half, None)))
        return [(name, np.concatenate([a, b])) for (name, a), (_, b) in zip(first, second, strict=True)]

    def one(self, block: Array) -> Array:
        """Forward of float32 [rows, features] by a module with one result: [rows] or [rows, k]."""
        found = self(np.ascontiguousarray(block, dtype=np.float32))
        if len(found) != 1:
            raise PredictionFailed(
                f"the module returned {len(found)} tensors", "it returns one tensor", "return the tensor of scores"
            )
        raw = found[0][1]
        return raw[:, 0] if raw.ndim == _MATRIX and raw.shape[1] == 1 else raw


def _named(result: Any) -> list[tuple[str, Array]]:
    import torch  # noqa: PLC0415

    if isinstance(result, dict):
        items = list(result.items())
    elif isinstance(result, (tuple, list)):
        items = [("", each) for each in result]
    else:
        items = [("", result)]
    for _, each in items:
        if not isinstance(each, torch.Tensor):
            raise PredictionFailed(
                f"the module returned a {type(each).__name__}", "it returns tensors", "return the tensor of scores"
            )
    return [(str(name), each.numpy(force=True)) for name, each in items]


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
