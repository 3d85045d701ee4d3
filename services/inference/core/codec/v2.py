"""The Open Inference Protocol (V2), JSON.

`inputs` is either one tensor [rows, features] in feature order, of any name, or one tensor [rows]
(or [rows, 1]) per feature, named after it. Data may be flat (row-major) or nested.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from services.inference.core.codec.base import json_type, read_object, write
from services.inference.core.codec.predict import read_id
from services.inference.core.codec.rows import checked, from_columns, refused
from services.inference.core.errors import InvalidValue, MalformedBody, MissingFeature
from services.inference.core.schema import DATATYPES, Kind, Schema
from services.inference.core.types import Array, Parameters, Request, Rows

if TYPE_CHECKING:
    from services.inference.core.schema import Feature, ModelInfo
    from services.inference.core.types import Response

MATRIX = 2
"""Dimensions of a tensor that holds every feature."""
_BINARY = ("binary_data", "binary_data_output", "binary_data_size")


class V2Codec:
    """Tensors in, tensors out."""

    def decode(self, body: bytes, model: ModelInfo) -> Request:
        """Read a request; `InvalidRequest` names what is wrong with it."""
        message = read_object(body)
        inputs = message.get("inputs")
        if not isinstance(inputs, list) or not inputs:
            raise MalformedBody(
                "there are no 'inputs'", "inputs are an array of tensors", "see /docs for an example", field="inputs"
            )
        schema = model.metadata.schema
        tensors = [_Tensor(item, at) for at, item in enumerate(inputs)]
        if len(tensors) == 1 and len(tensors[0].shape) == MATRIX and (schema.tensor or len(schema.features) > 1):
            rows = _from_matrix(tensors[0], schema)
        else:
            rows = _from_tensors(tensors, schema)
        return Request(
            rows=rows,
            id=read_id(message, "id"),
            parameters=_parameters(message),
            outputs=_selected(message, model),
        )

    def encode(self, request: Request, response: Response, model: ModelInfo) -> bytes:
        """Write the answer: the selected outputs, in the order asked for."""
        specs = {spec.name: spec for spec in model.metadata.outputs}
        names = request.outputs or tuple(name for name in specs if name in response.outputs)
        outputs = []
        for name in names:
            values = response.outputs[name]
            outputs.append(
                {
                    "name": name,
                    "datatype": specs[name].datatype,
                    "shape": list(values.shape),
                    "data": values.ravel().tolist() if values.dtype == object else np.ascontiguousarray(values.ravel()),
                }
            )
        return write({"model_name": model.name, "model_version": model.version, "id": response.id, "outputs": outputs})


class _Tensor:
    """One checked entry of `inputs`."""

    def __init__(self, item: Any, at: int) -> None:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise MalformedBody(f"inputs[{at}] has no name", "a tensor has name, shape, datatype, data", "see /docs")
        self.name: str = item["name"]
        self.shape = self._shape(item.get("shape"))
        _parameters(item)
        datatype = item.get("datatype")
        if not isinstance(datatype, str) or datatype not in DATATYPES:
            raise self.error(f"datatype is {str(datatype)[:40]!r}", f"it is one of {', '.join(DATATYPES)}")
        self.datatype = datatype
        data = item.get("data")
        if not isinstance(data, list):
            raise self.error(f"data is a {json_type(data)}", "data is an array, flat or nested")
        self.data = _flat(data)
        if len(self.data) != math.prod(self.shape):
            raise self.error(f"shape {list(self.shape)} and {len(self.data)} values", "data fills the shape exactly")

    def _shape(self, shape: Any) -> tuple[int, ...]:
        if not isinstance(shape, list) or not shape or not all(type(size) is int and size > 0 for size in shape):
            raise self.error(f"shape is {str(shape)[:40]}", "a shape is an array of positive integers")
        return tuple(shape)

    def error(self, value: str, rule: str) -> InvalidValue:
        """An error about this tensor."""
        return InvalidValue(f"input {self.name!r}: {value}", rule, "correct the tensor", field=self.name)

    def column(self, feature: Feature) -> Array:
        """Values of one feature, [rows], through the declared datatype."""
        if (self.datatype == "BYTES") != (feature.kind is Kind.TEXT) or (
            self.datatype == "BOOL" and feature.kind is not Kind.BOOLEAN
        ):
            raise self.error(f"datatype {self.datatype}", f"feature {feature.name!r} is {feature.datatype}")
        return self.values([feature])

    def values(self, features: list[Feature]) -> Array:
        """All values, flat; `features` are those of a row, to name the one that is wrong."""
        if self.datatype == "BYTES":
            return np.array(self.data, dtype=object)
        allowed = {bool} if self.datatype == "BOOL" else {int, float}
        types = set(map(type, self.data))
        if not types <= allowed:
            for at, value in enumerate(self.data):
                feature = features[at % len(features)]
                if type(value) not in allowed and not (value is None and feature.nullable):
                    raise refused(feature, value, at // len(features))
        integral = self.datatype[:1] in "IU"
        if integral and (None in self.data or any(isinstance(value, float) for value in self.data)):
            raise self.error("data has a value that is no integer", f"{self.datatype} holds integers")
        data = [math.nan if value is None else value for value in self.data] if type(None) in types else self.data
        try:
            with np.errstate(over="ignore"):  # beyond the type's range becomes infinite, and is refused as such
                return np.array(data, dtype=DATATYPES[self.datatype])
        except OverflowError as error:
            raise self.error("data has a value out of range", f"{self.datatype} holds smaller numbers") from error


def _from_matrix(tensor: _Tensor, schema: Schema) -> Rows:
    width = len(schema.features)
    if tensor.shape[1] != width:
        raise tensor.error(f"shape is {list(tensor.shape)}", f"it is [rows, {width}], in the order of the features")
    if schema.text:
        raise tensor.error(
            "one tensor for all features", f"feature {schema.text[0].name!r} is BYTES: send one tensor each"
        )
    if tensor.datatype in ("BYTES", "BOOL"):
        raise tensor.error(f"datatype {tensor.datatype}", "a tensor of all features is FP32, FP64 or an integer type")
    matrix = tensor.values(list(schema.features)).reshape(tensor.shape)
    return checked(Rows.of_numbers(matrix.astype(np.float64)), schema)


def _from_tensors(tensors: list[_Tensor], schema: Schema) -> Rows:
    by_name = {tensor.name: tensor for tensor in tensors}
    if len(by_name) != len(tensors):
        raise MalformedBody("two inputs have one name", "names of inputs differ", "name each after its feature")
    for feature in schema.features:
        if feature.name not in by_name:
            raise MissingFeature(
                f"there is no input {feature.name!r}",
                f"the model takes {len(schema.features)} features",
                f"send one tensor per feature, or one [rows, {len(schema.features)}] tensor",
                field=feature.name,
            )
    rows = by_name[schema.features[0].name].shape[0]
    for feature in schema.features:
        tensor = by_name[feature.name]
        if tensor.shape not in ((rows,), (rows, 1)):
            raise tensor.error(f"shape is {list(tensor.shape)}", f"a feature is [{rows}] or [{rows}, 1] here")
    return from_columns({feature.name: by_name[feature.name].column(feature) for feature in schema.features}, schema)


def _flat(data: list[Any]) -> list[Any]:
    """Nested arrays row-major; depth is bounded by the JSON parser."""
    while any(isinstance(item, list) for item in data):
        data = [leaf for item in data for leaf in (item if isinstance(item, list) else [item])]
    return data


def _parameters(message: dict[str, Any]) -> Parameters:
    parameters = message.get("parameters")
    if parameters is None:
        return ()
    if not isinstance(parameters, dict) or not all(isinstance(v, (str, int, float, bool)) for v in parameters.values()):
        raise MalformedBody(
            "'parameters' are not plain values", "a parameter is a string, number or boolean", "see /docs"
        )
    for name in _BINARY:
        if parameters.get(name):
            raise InvalidValue(f"parameter {name!r}", "this service speaks JSON tensors", "leave it out", field=name)
    return tuple(sorted((name, value) for name, value in parameters.items() if name not in _BINARY))


def _selected(message: dict[str, Any], model: ModelInfo) -> tuple[str, ...]:
    outputs = message.get("outputs")
    if outputs is None:
        return ()
    known = [spec.name for spec in model.metadata.outputs]
    if not isinstance(outputs, list):
        raise MalformedBody("'outputs' is no array", "outputs are an array of {name}", "see /docs", field="outputs")
    names = []
    for item in outputs:
        name = item.get("name") if isinstance(item, dict) else None
        if name not in known:
            raise InvalidValue(
                f"output {str(name)[:80]!r}",
                f"the model gives {', '.join(known)}",
                "ask for one of them",
                field=str(name),
            )
        _parameters(item)
        names.append(name)
    return tuple(names)
