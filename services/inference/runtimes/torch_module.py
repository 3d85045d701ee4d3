"""Between numpy rows and a torch module: forward, activation, threshold."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from services.inference.core.errors import InvalidArtifact, PredictionFailed
from services.inference.core.schema import Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from services.inference.core.types import Array, Outputs

_MATRIX = 2

GPU_LANES = 2
"""While a GPU computes one batch, the next is copied to it and the last one back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchOptions:
    """How torch runs models: settings of the whole process."""

    threads: int = 1
    """Intra-op threads on the CPU."""
    device: str = "cpu"
    """`auto` is a GPU where torch sees one."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 is autocast's: products in it, sums and losses of range in float32. Answers are float32."""
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = "off"
    """Mode of `torch.compile`; reduce-overhead replays CUDA graphs."""

    def placed(self) -> TorchOptions:
        """With a device that is there; `InvalidArtifact` where the one asked for is not."""
        import torch  # noqa: PLC0415  # seconds of import

        if self.device == "cpu":
            return self
        if not torch.cuda.is_available():
            if self.device == "auto":
                return replace(self, device="cpu")
            raise InvalidArtifact(
                f"device {self.device!r}", "torch sees no GPU in this process", "give the pod one, or choose cpu"
            )
        device = "cuda" if self.device == "auto" else self.device
        count, number = torch.cuda.device_count(), torch.device(device).index or 0
        if number >= count:
            raise InvalidArtifact(f"device {device!r}", f"torch sees {count}, from cuda:0", "choose one of them")
        return replace(self, device=device)


class TorchModule:
    """A torch module that takes and gives numpy arrays, on the CPU or one GPU.

    On a GPU each calling thread is a lane with a stream of its own: its copies go through pinned memory and overlap
    with what other lanes compute. A batch that does not fit the GPU's memory is halved until it does.
    """

    def __init__(self, module: Any, options: TorchOptions | None = None) -> None:
        import torch  # noqa: PLC0415  # seconds of import

        options = (options or TorchOptions()).placed()
        self.device = options.device
        graphs = options.compile in ("reduce-overhead", "max-autotune")
        # CUDA graphs belong to the thread that has recorded them.
        self.lanes = GPU_LANES if self.device != "cpu" and not graphs else 1
        self._bfloat16 = options.precision == "bfloat16"
        self._streams = threading.local()
        module = module.to(self.device)
        if options.compile != "off":
            if isinstance(module, torch.jit.ScriptModule):
                raise InvalidArtifact(
                    "the module is TorchScript",
                    "torch.compile takes Python modules",
                    "set SLIPWAY_TORCH_COMPILE to off",
                )
            module = torch.compile(module, mode=options.compile, dynamic=False)
        self._module = module

    def __call__(self, *blocks: Array) -> list[tuple[str, Array]]:
        """Forward; the results with their names, empty where the module does not name them."""
        import torch  # noqa: PLC0415  # loaded with the model; a lookup from then on

        try:
            with torch.inference_mode():
                return self._on_cpu(blocks) if self.device == "cpu" else self._on_gpu(blocks)
        except torch.OutOfMemoryError:
            half = len(blocks[0]) // 2
            if not half:
                raise
        torch.cuda.empty_cache()
        first, second = (self(*[block[part] for block in blocks]) for part in (slice(half), slice(half, None)))
        return [(name, np.concatenate([a, b])) for (name, a), (_, b) in zip(first, second, strict=True)]

    def _forward(self, tensors: list[torch.Tensor]) -> Any:
        if not self._bfloat16:
            return self._module(*tensors)
        import torch  # noqa: PLC0415

        with torch.autocast(self.device.partition(":")[0], dtype=torch.bfloat16):
            return self._module(*tensors)

    def _on_cpu(self, blocks: Sequence[Array]) -> list[tuple[str, Array]]:
        import torch  # noqa: PLC0415

        tensors = [torch.from_numpy(block) for block in blocks]
        return [(name, each.numpy(force=True)) for name, each in _named(self._forward(tensors))]

    def _on_gpu(self, blocks: Sequence[Array]) -> list[tuple[str, Array]]:
        import torch  # noqa: PLC0415

        stream = getattr(self._streams, "own", None)
        if stream is None:
            stream = self._streams.own = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            # torch keeps pinned memory, and does not give it out again before a copy that is under way has ended.
            tensors = [torch.from_numpy(block).pin_memory().to(self.device, non_blocking=True) for block in blocks]
            found = [(name, _pinned_copy(each)) for name, each in _named(self._forward(tensors))]
            stream.synchronize()
        return [(name, each.numpy()) for name, each in found]

    def one(self, block: Array) -> Array:
        """Forward of float32 [rows, features] by a module with one result: [rows] or [rows, k]."""
        found = self(np.ascontiguousarray(block, dtype=np.float32))
        if len(found) != 1:
            raise PredictionFailed(
                f"the module returned {len(found)} tensors", "it returns one tensor", "return the tensor of scores"
            )
        raw = found[0][1]
        return raw[:, 0] if raw.ndim == _MATRIX and raw.shape[1] == 1 else raw


def _pinned_copy(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on its way to pinned memory; it is there when the stream is done."""
    import torch  # noqa: PLC0415

    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)


def _named(result: Any) -> list[tuple[str, torch.Tensor]]:
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
    # numpy has no bfloat16.
    return [(str(name), each.float() if each.dtype is torch.bfloat16 else each) for name, each in items]


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
