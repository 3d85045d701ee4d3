"""Protobuf messages ↔ `Request` and `Response`.

What tensors mean to a model is the same as over HTTP, and is read by the same functions. Only their values travel
otherwise: for all tensors of a message either as raw bytes beside them (`raw_input_contents`: little-endian and
row-major, each BYTES element after its length as uint32), or typed inside them (`contents`: one field per datatype,
FP16 has none). The answer takes the way of the question.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from services.inference.adapters.grpc.grpc_predict_v2_pb2 import InferTensorContents, ModelInferResponse
from services.inference.core.codec.predict import read_id
from services.inference.core.codec.v2 import (
    Tensor,
    check_datatype,
    check_output,
    from_bytes,
    plain_parameters,
    read_priority,
    read_shape,
    read_timeout,
    rows_of,
    selected_outputs,
    tensor_error,
    to_bytes,
)
from services.inference.core.errors import MalformedBody
from services.inference.core.schema import DATATYPES
from services.inference.core.types import Array, Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from services.inference.adapters.grpc.grpc_predict_v2_pb2 import InferParameter, ModelInferRequest
    from services.inference.core.schema import ModelInfo, TensorSpec
    from services.inference.core.types import Response

FIELDS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}  # fmt: skip
"""The field of `InferTensorContents` that holds a datatype's values."""


class Inquiry(NamedTuple):
    """A message, and how long its caller waits."""

    message: ModelInferRequest
    seconds: float | None = None
    """Left until the call's deadline, None where it has none."""


class GrpcCodec:
    """Tensors in, tensors out."""

    def decode(self, body: Inquiry, model: ModelInfo) -> Request:
        """Read a request; `InvalidRequest` names what is wrong with it."""
        message = body.message
        if not message.inputs:
            raise MalformedBody(
                "there are no 'inputs'", "a request has a tensor or more", "send the model's inputs", field="inputs"
            )
        tensors = list(_raw(message) if message.raw_input_contents else _typed(message))
        parameters = {name: _value(name, parameter) for name, parameter in message.parameters.items()}
        outputs = tuple(check_output(output.name, model) for output in message.outputs)
        names = outputs or tuple(spec.name for spec in model.metadata.outputs)
        waits = [seconds for seconds in (body.seconds, read_timeout(parameters)) if seconds is not None]
        return Request(
            rows=rows_of(tensors, model.metadata.schema),
            id=read_id({"id": message.id}, "id"),
            parameters=plain_parameters(parameters),
            outputs=outputs,
            binary=frozenset(names) if message.raw_input_contents else frozenset(),
            timeout=min(waits, default=None),
            priority=read_priority(parameters),
        )

    def encode(self, request: Request, response: Response, model: ModelInfo) -> ModelInferResponse:
        """Write the answer: the selected outputs, in the order asked for."""
        specs = selected_outputs(request, response, model)
        raw = bool(request.binary) or any(spec.datatype not in FIELDS for spec in specs)
        message = ModelInferResponse(model_name=model.name, model_version=model.version, id=response.id)
        for spec in specs:
            values = response.outputs[spec.name]
            contents = None if raw else InferTensorContents(**{FIELDS[spec.datatype]: _list(values, spec)})
            message.outputs.add(name=spec.name, datatype=spec.datatype, shape=values.shape, contents=contents)
            if raw:
                message.raw_output_contents.append(to_bytes(values, spec))
        return message


def _raw(message: ModelInferRequest) -> Iterator[Tensor]:
    """Tensors whose values are raw bytes beside them, one item each."""
    contents = message.raw_input_contents
    for tensor in message.inputs:
        if tensor.contents.ListFields():
            raise tensor_error(
                tensor.name, "it has contents beside raw_input_contents", "all tensors use one of the two"
            )
    if len(contents) != len(message.inputs):
        first = message.inputs[min(len(contents), len(message.inputs) - 1)]
        raise tensor_error(
            first.name,
            f"{len(contents)} raw_input_contents for {len(message.inputs)} inputs",
            "where one input's are raw, each has one, in the order of the inputs",
        )
    for tensor, data in zip(message.inputs, contents, strict=True):
        shape, datatype = read_shape(tensor.name, list(tensor.shape)), check_datatype(tensor.name, tensor.datatype)
        array = from_bytes(tensor.name, datatype, shape, memoryview(data))
        yield Tensor(tensor.name, datatype, shape, array)


def _typed(message: ModelInferRequest) -> Iterator[Tensor]:
    """Tensors with their values in the field of their datatype."""
    for tensor in message.inputs:
        shape, datatype = read_shape(tensor.name, list(tensor.shape)), check_datatype(tensor.name, tensor.datatype)
        array = _from_contents(tensor.name, datatype, shape, tensor.contents)
        yield Tensor(tensor.name, datatype, shape, array)


def _from_contents(name: str, datatype: str, shape: tuple[int, ...], contents: InferTensorContents) -> Array:
    field = FIELDS.get(datatype)
    if field is None:
        raise tensor_error(name, f"datatype is {datatype}", f"{datatype} travels in raw_input_contents only")
    others = [given.name for given, _ in contents.ListFields() if given.name != field]
    if others:
        raise tensor_error(name, f"it has {others[0]}", f"values of {datatype} are in {field}")
    values = getattr(contents, field)[:]
    if len(values) != math.prod(shape):
        raise tensor_error(name, f"shape {list(shape)} and {len(values)} values", f"{field} fills the shape exactly")
    array: Array
    if datatype == "BYTES":
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array.reshape(shape)
    try:
        array = np.array(values, dtype=DATATYPES[datatype])
    except OverflowError as error:  # 8 and 16 bits travel as 32
        raise tensor_error(name, f"{field} has a value out of range", f"{datatype} holds smaller numbers") from error
    return array.reshape(shape)


def _list(values: Array, spec: TensorSpec) -> list[Any]:
    """Values as a field takes them, row-major."""
    if spec.datatype == "BYTES":
        return [value if isinstance(value, bytes) else str(value).encode() for value in values.ravel()]
    flat: list[Any] = values.astype(spec.dtype, copy=False).ravel().tolist()
    return flat


def _value(name: str, parameter: InferParameter) -> Any:
    chosen = parameter.WhichOneof("parameter_choice")
    if chosen is None:
        raise MalformedBody(
            f"parameter {name[:80]!r} has no value",
            "a parameter is a boolean, a number or a string",
            "set one of its fields, or leave the parameter out",
            field=name[:80],
        )
    return getattr(parameter, chosen)
