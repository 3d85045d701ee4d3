"""The Open Inference Protocol (V2) over HTTP: JSON, and the binary tensor extension.

For a model of features, `inputs` is either one tensor [rows, features] in feature order, of any name, or one tensor
[rows] (or [rows, 1]) per feature, named after it. For a model of tensors it is those tensors. JSON data may be flat
(row-major) or nested. A tensor with `binary_data_size` has its values behind the JSON, in the order of `inputs`:
little-endian and row-major, each BYTES element after its length as uint32.
"""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from services.inference.core.codec.base import Body, json_type, read_object, shown, write
from services.inference.core.codec.predict import read_id
from services.inference.core.codec.rows import checked, exact, from_columns, packed, refused
from services.inference.core.errors import InvalidValue, MalformedBody, MissingFeature
from services.inference.core.schema import DATATYPES, Kind, Schema
from services.inference.core.types import Array, Parameters, Request, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.inference.core.schema import Feature, ModelInfo, TensorSpec
    from services.inference.core.types import Response

MATRIX = 2
"""Dimensions of a tensor that holds every feature."""

BINARY_DATA, BINARY_SIZE, BINARY_OUTPUT = "binary_data", "binary_data_size", "binary_data_output"
DIMENSIONS, SIZES = 32, 2**63
"""Of a tensor at most, and what each is below: no numpy has fewer than the first, no array the second."""

TIMEOUT, PRIORITY = "timeout", "priority"
"""Request parameters of Triton: microseconds that the caller waits; 1 goes first, 0 is the default."""

OWN_PARAMETERS = frozenset({BINARY_DATA, BINARY_SIZE, BINARY_OUTPUT, TIMEOUT, PRIORITY})
"""Parameters that speak to the service; all others are the model's."""

LENGTH = struct.Struct("<I")

_DTYPES = {datatype: np.dtype(name) for datatype, name in DATATYPES.items()}

PLANS = 1024
"""JSON parts that are remembered; when there are more, all are forgotten."""
PLANNED_BYTES = 4096
"""Of the longest that is."""


class Tensor:
    """One input: checked in itself, not yet against the model. `array` has its shape and numpy type."""

    __slots__ = ("array", "datatype", "name", "shape")

    def __init__(self, name: str, datatype: str, shape: tuple[int, ...], array: Array) -> None:
        self.name = name
        self.datatype = datatype
        self.shape = shape
        self.array = array

    def error(self, value: str, rule: str) -> InvalidValue:
        """An error about this tensor."""
        return tensor_error(self.name, value, rule)


class _Place(NamedTuple):
    """Where one input's values are in a body."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    at: int
    end: int

    def array(self, content: bytes | bytearray) -> Array:
        """The values; of numbers a view."""
        if self.datatype == "BYTES":
            return from_bytes(self.name, self.datatype, self.shape, memoryview(content)[self.at : self.end])
        return np.ndarray(self.shape, _DTYPES[self.datatype], content, self.at)


class _Plan(NamedTuple):
    """How to read bodies of binary tensors that start with a JSON part seen before: all of it has been checked."""

    model: ModelInfo
    nbytes: int
    """Of the whole body."""
    places: list[_Place]
    """Of each input, in the model's order."""
    asked: Request
    """What else the JSON says."""

    def read(self, content: bytes | bytearray) -> Request:
        """The request of a body; raises `InvalidRequest` for what only the values show."""
        schema, asked = self.model.metadata.schema, self.asked
        if schema.tensors:
            rows = Rows(*[place.array(content) for place in self.places])
        else:
            rows = rows_of([Tensor(*place[:3], place.array(content)) for place in self.places], schema)
        return Request(
            rows=rows,
            parameters=asked.parameters,
            outputs=asked.outputs,
            binary=asked.binary,
            timeout=asked.timeout,
            priority=asked.priority,
        )


class V2Codec:
    """Tensors in, tensors out.

    A client that sends binary tensors writes the same JSON in front of them again and again. It is read once.
    """

    def __init__(self) -> None:
        self.plans: dict[bytes, _Plan] = {}
        """By JSON part."""

    def decode(self, body: Body, model: ModelInfo) -> Request:
        """Read a request; `InvalidRequest` names what is wrong with it."""
        content, json_bytes = body.content, body.json_bytes
        if json_bytes is None:
            return self._read(content, None, read_object(content), model)
        head = _header(content, json_bytes)
        plan = self.plans.get(head)
        if plan is not None and plan.model is model and plan.nbytes == len(content):
            return plan.read(content)
        message = read_object(head)
        request = self._read(content, json_bytes, message, model)
        if len(head) <= PLANNED_BYTES and not request.id:
            plan = _plan(message, request, model, len(head), len(content))
            if plan is not None:
                if len(self.plans) >= PLANS:
                    self.plans.clear()
                self.plans[head] = plan
        return request

    def _read(
        self, content: bytes | bytearray, json_bytes: int | None, message: dict[str, Any], model: ModelInfo
    ) -> Request:
        inputs = message.get("inputs")
        if not isinstance(inputs, list) or not inputs:
            raise MalformedBody(
                "there are no 'inputs'", "inputs are an array of tensors", "see /docs for an example", field="inputs"
            )
        schema = model.metadata.schema
        tensors = list(_tensors(inputs, content, json_bytes, schema))
        parameters = _read_parameters(message)
        outputs, binary = _selected(message, model, everything=bool(parameters.get(BINARY_OUTPUT)))
        return Request(
            rows=rows_of(tensors, schema),
            id=read_id(message, "id"),
            parameters=plain_parameters(parameters),
            outputs=outputs,
            binary=binary,
            timeout=read_timeout(parameters),
            priority=read_priority(parameters),
        )

    def encode(self, request: Request, response: Response, model: ModelInfo) -> Body:
        """Write the answer: the selected outputs, in the order asked for."""
        outputs, raw = [], []
        for spec in selected_outputs(request, response, model):
            name = spec.name
            values = response.outputs[name]
            described: dict[str, Any] = {"name": name, "datatype": spec.datatype, "shape": values.shape}
            if name in request.binary:
                data = to_bytes(values, spec)
                described["parameters"] = {BINARY_SIZE: len(data)}
                raw.append(data)
            elif spec.datatype == "BYTES":
                described["data"] = [_text(value) for value in values.ravel()]
            else:
                described["data"] = np.ascontiguousarray(values).ravel()
            outputs.append(described)
        head = write({"model_name": model.name, "model_version": model.version, "id": response.id, "outputs": outputs})
        return Body(b"".join((head, *raw)), len(head)) if raw else Body(head)


def _plan(message: dict[str, Any], request: Request, model: ModelInfo, at: int, end: int) -> _Plan | None:
    """The plan of a request that has been read; None where a value stands in its JSON."""
    places = []
    for item in message["inputs"]:
        size = _read_parameters(item).get(BINARY_SIZE)
        if size is None:
            return None
        places.append(_Place(item["name"], item["datatype"], tuple(item["shape"]), at, at + size))
        at += size
    order = {spec.name: number for number, spec in enumerate(model.metadata.schema.tensors)}
    if order:
        places.sort(key=lambda place: order[place.name])
    return _Plan(model, end, places, replace(request, rows=Rows()))


def rows_of(tensors: list[Tensor], schema: Schema) -> Rows:
    """What the model takes, from the tensors of a request."""
    if schema.tensors:
        return _from_model_tensors(tensors, schema)
    if len(tensors) == 1 and len(tensors[0].shape) == MATRIX and len(schema.features) > 1:
        return _from_matrix(tensors[0], schema)
    return _from_feature_tensors(tensors, schema)


def selected_outputs(request: Request, response: Response, model: ModelInfo) -> list[TensorSpec]:
    """Outputs that the caller wants, in the order asked for; all that there are where it did not ask."""
    if not request.outputs:
        return [spec for spec in model.metadata.outputs if spec.name in response.outputs]
    specs = {spec.name: spec for spec in model.metadata.outputs}
    return [specs[name] for name in request.outputs]


def from_bytes(name: str, datatype: str, shape: tuple[int, ...], data: memoryview) -> Array:
    """The array of a tensor's raw bytes; of numbers it is a view."""
    count = math.prod(shape)
    if datatype == "BYTES":
        return _read_strings(name, data, count).reshape(shape)
    dtype = _DTYPES[datatype]
    if len(data) != count * dtype.itemsize:
        raise tensor_error(
            name, f"{len(data)} bytes for shape {list(shape)}", f"{datatype} takes {count * dtype.itemsize} bytes here"
        )
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def to_bytes(values: Array, spec: TensorSpec) -> bytes:
    """Raw bytes of an output."""
    if spec.datatype != "BYTES":
        return np.ascontiguousarray(values, dtype=spec.dtype).tobytes()
    encoded = [value if isinstance(value, bytes) else _text(value).encode() for value in values.ravel()]
    return b"".join(part for value in encoded for part in (LENGTH.pack(len(value)), value))


def tensor_error(name: str, value: str, rule: str) -> InvalidValue:
    """An error about one input."""
    return InvalidValue(f"input {name[:80]!r}: {value}", rule, "correct the tensor", field=name[:80])


def read_shape(name: str, shape: Any) -> tuple[int, ...]:
    """A tensor's shape: one row at least, every size positive."""
    if not isinstance(shape, list) or not shape or not all(type(size) is int and 0 < size < SIZES for size in shape):
        raise tensor_error(name, f"shape is {shown(shape)}", "a shape is an array of positive integers")
    if len(shape) > DIMENSIONS:
        raise tensor_error(name, f"shape has {len(shape)} dimensions", f"it has at most {DIMENSIONS}")
    return tuple(shape)


def check_datatype(name: str, datatype: Any) -> str:
    """A datatype that the protocol has."""
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise tensor_error(name, f"datatype is {shown(datatype)!r}", f"it is one of {', '.join(DATATYPES)}")
    return datatype


def plain_parameters(parameters: dict[str, Any]) -> Parameters:
    """The model's own parameters, in the order of their names."""
    if not parameters:
        return ()
    return tuple(sorted((name, value) for name, value in parameters.items() if name not in OWN_PARAMETERS))


def read_timeout(parameters: dict[str, Any]) -> float | None:
    """Seconds that the caller waits, None where it does not say."""
    value = parameters.get(TIMEOUT)
    if value is None or value == 0:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidValue(f"parameter 'timeout' is {value!r}"[:80], "it is microseconds", "correct it", field=TIMEOUT)
    return value / 1e6


def read_priority(parameters: dict[str, Any]) -> int:
    """Smaller goes first."""
    value = parameters.get(PRIORITY, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 2**31:
        raise InvalidValue(
            f"parameter 'priority' is {value!r}"[:80], "it is a number from 0, 1 going first", "correct it",
            field=PRIORITY,
        )  # fmt: skip
    # The default, 0, stands in the middle: 1 goes before it, so it is put behind all that is asked for.
    return value - 2**31 if value else 0


def check_output(name: Any, model: ModelInfo) -> str:
    """The name of an output that the model has."""
    known = [spec.name for spec in model.metadata.outputs]
    if name not in known:
        raise InvalidValue(
            f"output {shown(name, 80)!r}", f"the model gives {', '.join(known)}", "ask for one of them",
            field=shown(name, 80),
        )  # fmt: skip
    return str(name)


def _header(content: bytes | bytearray, json_bytes: int) -> bytes:
    if not 0 < json_bytes <= len(content):
        raise MalformedBody(
            f"Inference-Header-Content-Length is {json_bytes}",
            f"it is the length of the JSON in a body of {len(content)} bytes",
            "send the length of the JSON part",
        )
    return bytes(content[:json_bytes])


def _tensors(inputs: list[Any], content: bytes | bytearray, json_bytes: int | None, schema: Schema) -> Iterator[Tensor]:
    at = len(content) if json_bytes is None else json_bytes
    for number, item in enumerate(inputs):
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise MalformedBody(
                f"inputs[{number}] has no name", "a tensor has name, shape, datatype, data", "see /docs"
            )
        name = item["name"]
        shape = read_shape(name, item.get("shape"))
        datatype = check_datatype(name, item.get("datatype"))
        size = _read_parameters(item).get(BINARY_SIZE)
        if size is None:
            yield Tensor(name, datatype, shape, _from_json(name, datatype, shape, item.get("data"), schema))
            continue
        if not isinstance(size, int) or isinstance(size, bool) or size < 0 or at + size > len(content):
            raise tensor_error(
                name, f"binary_data_size is {shown(size)}", f"{len(content) - at} bytes are left in the body"
            )
        yield Tensor(name, datatype, shape, from_bytes(name, datatype, shape, memoryview(content)[at : at + size]))
        at += size
    if at != len(content):
        raise MalformedBody(
            f"{len(content) - at} bytes are left over", "binary data is all some input's", "correct binary_data_size"
        )


def _from_json(name: str, datatype: str, shape: tuple[int, ...], data: Any, schema: Schema) -> Array:
    """The array of a tensor's JSON values; null is NaN where the model's features may be missing."""
    if not isinstance(data, list):
        raise tensor_error(name, f"data is a {json_type(data)}", "data is an array, flat or nested")
    values = _flat(data)
    if len(values) != math.prod(shape):
        raise tensor_error(name, f"shape {list(shape)} and {len(values)} values", "data fills the shape exactly")
    if datatype == "BYTES":
        return _texts(name, values, schema).reshape(shape)
    numbers: Any = packed(values) if datatype[:2] == "FP" else None
    if numbers is None:
        allowed: set[type] = {bool} if datatype == "BOOL" else {int, float}
        types = set(map(type, values))
        numbers = values if types <= allowed else _with_missing(name, values, allowed, shape, schema)
        if datatype[:1] in "IU" and types != {int}:
            raise tensor_error(name, "data has a value that is no integer", f"{datatype} holds integers")
    try:
        with np.errstate(over="ignore"):  # beyond the type's range becomes infinite, and is refused as such
            return np.asarray(numbers, dtype=DATATYPES[datatype]).reshape(shape)
    except OverflowError as error:
        raise tensor_error(name, "data has a value out of range", f"{datatype} holds smaller numbers") from error


def _texts(name: str, values: list[Any], schema: Schema) -> Array:
    """Strings as a tensor's bytes; what a feature gets is looked at with its column."""
    if schema.tensors:
        if set(map(type, values)) - {str}:
            raise tensor_error(name, "data has a value that is no string", "BYTES holds strings")
        values = [value.encode() for value in values]
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _with_missing(name: str, values: list[Any], allowed: set[type], shape: tuple[int, ...], schema: Schema) -> Any:
    """Null becomes NaN for a feature that may be missing; anything else is refused by the feature's name."""
    named = {feature.name: feature for feature in schema.features}
    matrix = len(shape) == MATRIX and shape[1] == len(schema.features)
    for at, value in enumerate(values):
        if type(value) in allowed:
            continue
        feature = schema.features[at % shape[1]] if matrix else named.get(name)
        if feature is None:
            raise tensor_error(name, f"data has a {json_type(value)}", "it holds values of its datatype")
        if value is not None or not feature.nullable:
            raise refused(feature, value, at // shape[1] if matrix else at)
    return [math.nan if value is None else value for value in values]


def _read_strings(name: str, data: memoryview, count: int) -> Array:
    found = np.empty(count, dtype=object)
    at = 0
    for number in range(count):
        start = at + LENGTH.size
        at = start + LENGTH.unpack_from(data, at)[0] if start <= len(data) else len(data) + 1
        if at > len(data):
            raise tensor_error(name, f"the bytes end in element {number}", f"the shape has {count} elements")
        found[number] = bytes(data[start:at])
    if at != len(data):
        raise tensor_error(name, f"{len(data) - at} bytes are left over", f"the shape has {count} elements")
    return found


def _from_model_tensors(tensors: list[Tensor], schema: Schema) -> Rows:
    by_name = _by_name(tensors)
    blocks: list[Array] = []
    for spec in schema.tensors:
        tensor = by_name.pop(spec.name, None)
        if tensor is None:
            raise _missing(spec.name, [s.name for s in schema.tensors])
        if tensor.datatype != spec.datatype:
            raise tensor.error(f"datatype {tensor.datatype}", f"the model takes {spec.datatype}")
        if not spec.fits(tensor.shape):
            raise tensor.error(f"shape {list(tensor.shape)}", f"the model takes {list(spec.shape)}")
        if blocks and len(blocks[0]) != tensor.shape[0]:
            raise tensor.error(f"{tensor.shape[0]} rows", f"input {schema.tensors[0].name!r} has {len(blocks[0])}")
        blocks.append(tensor.array)
    if by_name:
        raise next(iter(by_name.values())).error(
            "the model has no such input", f"it takes {', '.join(spec.name for spec in schema.tensors)}"
        )
    return Rows(*blocks)


def _from_matrix(tensor: Tensor, schema: Schema) -> Rows:
    width = len(schema.features)
    if tensor.shape[1] != width:
        raise tensor.error(f"shape is {list(tensor.shape)}", f"it is [rows, {width}], in the order of the features")
    if schema.text:
        raise tensor.error(
            "one tensor for all features", f"feature {schema.text[0].name!r} is BYTES: send one tensor each"
        )
    if tensor.datatype in ("BYTES", "BOOL"):
        raise tensor.error(f"datatype {tensor.datatype}", "a tensor of all features is FP32, FP64 or an integer type")
    matrix = tensor.array
    if tensor.datatype not in ("FP32", "FP64"):
        for at, feature in enumerate(schema.features):
            exact(matrix[:, at], feature)
        matrix = matrix.astype(np.float64)
    return checked(Rows(matrix), schema)


def _from_feature_tensors(tensors: list[Tensor], schema: Schema) -> Rows:
    by_name = _by_name(tensors)
    for feature in schema.features:
        if feature.name not in by_name:
            raise _missing(feature.name, list(schema.names))
    rows = by_name[schema.features[0].name].shape[0]
    for feature in schema.features:
        tensor = by_name[feature.name]
        if tensor.shape not in ((rows,), (rows, 1)):
            raise tensor.error(f"shape is {list(tensor.shape)}", f"a feature is [{rows}] or [{rows}, 1] here")
    return from_columns({feature.name: _column(by_name[feature.name], feature) for feature in schema.features}, schema)


def _column(tensor: Tensor, feature: Feature) -> Array:
    """Values of one feature, [rows], through the declared datatype."""
    if (tensor.datatype == "BYTES") != (feature.kind is Kind.TEXT) or (
        tensor.datatype == "BOOL" and feature.kind is not Kind.BOOLEAN
    ):
        raise tensor.error(f"datatype {tensor.datatype}", f"feature {feature.name!r} is {feature.datatype}")
    values = tensor.array.ravel()
    if tensor.datatype != "BYTES":
        return values
    try:
        decoded = [value.decode() if isinstance(value, bytes) else value for value in values]
    except UnicodeDecodeError as error:
        raise tensor.error("a text is not UTF-8", "texts are UTF-8") from error
    column = np.empty(len(decoded), dtype=object)
    column[:] = decoded
    return column


def _by_name(tensors: list[Tensor]) -> dict[str, Tensor]:
    by_name = {tensor.name: tensor for tensor in tensors}
    if len(by_name) != len(tensors):
        raise MalformedBody(
            "two inputs have one name", "names of inputs differ", "name each after what the model takes"
        )
    return by_name


def _missing(name: str, names: list[str]) -> MissingFeature:
    return MissingFeature(
        f"there is no input {name!r}",
        f"the model takes {len(names)}: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}",  # noqa: PLR2004
        "send one tensor each; for a model of features one [rows, features] tensor does too",
        field=name,
    )


def _flat(data: list[Any]) -> list[Any]:
    """Nested arrays row-major; depth is bounded by the JSON parser."""
    while data and isinstance(data[0], list):
        if not all(isinstance(item, list) for item in data):
            break
        data = [leaf for item in data for leaf in item]
    return data


def _read_parameters(message: dict[str, Any]) -> dict[str, Any]:
    parameters = message.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict) or not all(isinstance(v, (str, int, float, bool)) for v in parameters.values()):
        raise MalformedBody(
            "'parameters' are not plain values", "a parameter is a string, number or boolean", "see /docs"
        )
    return parameters


def _selected(message: dict[str, Any], model: ModelInfo, *, everything: bool) -> tuple[tuple[str, ...], frozenset[str]]:
    """Names of the outputs asked for, empty for all; and which of them go as raw bytes."""
    outputs = message.get("outputs")
    if outputs is None:
        return (), frozenset(spec.name for spec in model.metadata.outputs) if everything else frozenset()
    if not isinstance(outputs, list):
        raise MalformedBody("'outputs' is no array", "outputs are an array of {name}", "see /docs", field="outputs")
    names, binary = [], set()
    for item in outputs:
        name = check_output(item.get("name") if isinstance(item, dict) else None, model)
        if _read_parameters(item).get(BINARY_DATA, everything):
            binary.add(name)
        names.append(name)
    return tuple(names), frozenset(binary)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
