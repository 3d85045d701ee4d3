"""Reading an `MLmodel` file without MLflow: flavours and signature."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from services.inference.core.errors import InvalidArtifact
from services.inference.core.schema import Feature, Kind, Schema, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

FILE = "MLmodel"
_KINDS = {
    "boolean": Kind.BOOLEAN,
    "integer": Kind.INTEGER,
    "long": Kind.INTEGER,
    "float": Kind.FLOAT,
    "double": Kind.FLOAT,
    "string": Kind.TEXT,
}
_DATATYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}
_OF_NUMPY = {
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "int64": "INT64",
    "int32": "INT32",
    "int16": "INT16",
    "int8": "INT8",
    "uint8": "UINT8",
    "bool": "BOOL",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MlModel:
    """What we use of an `MLmodel` file."""

    flavors: dict[str, dict[str, Any]]
    schema: Schema
    types: tuple[str, ...]
    """MLflow's type of each feature, in order: what a data frame's columns are cast to."""
    outputs: tuple[TensorSpec, ...]
    """Declared outputs; one called `prediction` where the signature names none."""


def read_mlmodel(directory: Path) -> MlModel:
    """Read the file and its signature; `InvalidArtifact` says what it lacks."""
    try:
        content = yaml.safe_load((directory / FILE).read_text())
        flavors = {str(name): dict(flavor) for name, flavor in content["flavors"].items()}
        signature = content.get("signature") or {}
        inputs = json.loads(signature.get("inputs") or "null")
        outputs = json.loads(signature.get("outputs") or "null")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise InvalidArtifact(f"{FILE}: {error}", "it is MLflow's YAML with flavours", "log the model again") from error
    if not inputs:
        raise _unsupported("the model has no input signature", "log it with a signature or an input example")
    schema = _inputs(inputs)
    return MlModel(
        flavors=flavors,
        schema=schema,
        types=tuple(str(column.get("type")) for column in inputs) if schema.features else (),
        outputs=_outputs(outputs or []),
    )


def _inputs(columns: list[dict[str, Any]]) -> Schema:
    if columns[0].get("type") == "tensor":
        return Schema(tensors=tuple(_tensor(column) for column in columns))
    features = []
    for at, column in enumerate(columns):
        if column.get("type") not in _KINDS:
            raise _unsupported(f"column {column.get('name')!r} has type {column.get('type')}", "use scalar columns")
        nullable = column.get("type") in ("float", "double") and column.get("required") is False
        features.append(
            Feature(name=column.get("name") or f"input_{at}", kind=_KINDS[column["type"]], nullable=nullable)
        )
    return Schema(tuple(features))


def _tensor(column: dict[str, Any]) -> TensorSpec:
    spec = column["tensor-spec"]
    name, shape, dtype = column.get("name") or "input", tuple(spec["shape"]), spec["dtype"]
    if not shape or shape[0] != -1:
        raise _unsupported(f"tensor {name!r} has shape {list(shape)}", "log a model whose tensors are [-1, …]")
    if dtype not in _OF_NUMPY:
        raise _unsupported(f"tensor {name!r} has type {dtype}", f"use one of {', '.join(_OF_NUMPY)}")
    return TensorSpec(name=name, datatype=_OF_NUMPY[dtype], shape=shape)


def _outputs(columns: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    found = []
    for column in columns:
        name = column.get("name") or "prediction"
        if column.get("type") == "tensor":
            spec = column["tensor-spec"]
            found.append(
                TensorSpec(name=name, datatype=_OF_NUMPY.get(spec["dtype"], "FP64"), shape=tuple(spec["shape"]))
            )
        else:
            found.append(TensorSpec(name=name, datatype=_DATATYPES.get(str(column.get("type")), "FP64")))
    if len({output.name for output in found}) != len(found) or not found:
        return (TensorSpec(name="prediction", datatype="FP64"),)
    return tuple(found)


def _unsupported(value: str, remedy: str) -> InvalidArtifact:
    return InvalidArtifact(value, "columns are known from the signature", remedy)
