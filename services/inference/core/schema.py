"""What a model takes and gives: features in order, outputs by name, and what serves it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, partial
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from services.inference.core.types import Array, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

EXACT_INTEGER = 2**53
"""Numbers travel as float64, which counts exactly up to here; a larger integer is refused, not rounded."""


class Kind(StrEnum):
    """What a feature's values are."""

    FLOAT = "float"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TEXT = "text"


class Task(StrEnum):
    """What the model's result means."""

    BINARY = "binary_classification"
    MULTICLASS = "multiclass_classification"
    REGRESSION = "regression"


DATATYPES: Mapping[str, str] = MappingProxyType(
    {
        "BOOL": "bool",
        "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
        "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
        "FP16": "float16", "FP32": "float32", "FP64": "float64",
        "BYTES": "object",
    }
)  # fmt: skip
"""Datatypes of the Open Inference Protocol and the numpy type of each."""

_OF_KIND = {Kind.FLOAT: "FP64", Kind.INTEGER: "INT64", Kind.BOOLEAN: "BOOL", Kind.TEXT: "BYTES"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One input of the model."""

    name: str
    kind: Kind = Kind.FLOAT
    nullable: bool = False
    """Whether null is a value: true where the transformer imputes it."""

    @property
    def datatype(self) -> str:
        """Open Inference Protocol datatype of the feature's column."""
        return _OF_KIND[self.kind]


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An input or output tensor. `shape` has -1 for the row, which comes first, and for any size."""

    name: str
    datatype: str
    shape: tuple[int, ...] = (-1,)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Numpy type of its values."""
        return np.dtype(DATATYPES[self.datatype])

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of that shape is one of this tensor."""
        return len(shape) == len(self.shape) and all(
            size in (-1, given) for size, given in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True)
class Schema:
    """What the model takes, in its order: features by name, or tensors. One of the two is empty."""

    features: tuple[Feature, ...] = ()
    tensors: tuple[TensorSpec, ...] = ()

    @cached_property
    def numeric(self) -> tuple[Feature, ...]:
        """Features of the `numbers` block, in its order."""
        return tuple(f for f in self.features if f.kind is not Kind.TEXT)

    @cached_property
    def text(self) -> tuple[Feature, ...]:
        """Features of the `texts` block, in its order."""
        return tuple(f for f in self.features if f.kind is Kind.TEXT)

    @cached_property
    def plain(self) -> bool:
        """Every feature is a float: rows are a matrix and need no look at single values."""
        return all(f.kind is Kind.FLOAT for f in self.features)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all features, in order."""
        return tuple(f.name for f in self.features)

    @cached_property
    def values_of(self) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
        """What a row given as an object has for the features, in order; KeyError where it lacks one."""
        names = self.names
        return itemgetter(*names) if len(names) > 1 else partial(_only, names[0])

    @cached_property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs as the protocols of tensors describe them: the tensors, or one of [rows] per feature."""
        return self.tensors or tuple(TensorSpec(name=f.name, datatype=f.datatype) for f in self.features)

    def zeros(self) -> Rows:
        """One row of zeros and empty texts; a size that is any is 1."""
        if self.tensors:
            return Rows(*[_zeros(spec) for spec in self.tensors])
        numbers = np.zeros((1, len(self.numeric)))
        return Rows(numbers, np.full((1, len(self.text)), "", dtype=object)) if self.text else Rows(numbers)


def _only(name: str, row: Mapping[str, Any]) -> list[Any]:
    """Of one name itemgetter makes no sequence."""
    return [row[name]]


def _zeros(spec: TensorSpec) -> Array:
    shape = [1 if size < 0 else size for size in spec.shape]
    return np.full(shape, "", dtype=object) if spec.datatype == "BYTES" else np.zeros(shape, dtype=spec.dtype)


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """What a runtime knows about its model once it is loaded."""

    platform: str
    """How it is run: `torchscript`, `mlflow_pytorch`, `mlflow_pyfunc`, `sklearn` or a runtime of the user's."""
    schema: Schema
    outputs: tuple[TensorSpec, ...]
    score: str
    """The output that V1 answers with: what the threshold applies to, else the prediction."""
    function_output: str = ""
    """The one output that MLflow's own server would answer with, where it is not all of them."""
    device: str = "cpu"
    """Where it runs: `cpu` or `cuda`, with a number where there are several."""
    lanes: int = 1
    """Batches that it takes at once, on as many threads."""
    task: Task | None = None
    threshold: float | None = None
    example: Rows = field(repr=False)
    """One row that the model accepts; warm-up repeats it."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A served model: who it is and what it takes."""

    name: str
    version: str
    release: str
    digest: str
    metadata: ModelMetadata
