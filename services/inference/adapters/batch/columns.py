"""Between Arrow's columns and the model's rows: types are checked once, values in each batch."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd  # noqa: F401  # pyarrow imports it with the first value: a second, and every stage waits for it
import pyarrow as pa
import pyarrow.compute as pc

from services.inference.adapters.batch.errors import InvalidInput
from services.inference.core.schema import EXACT_INTEGER, Feature, Kind
from services.inference.core.types import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from services.inference.core.schema import ModelInfo, Schema, TensorSpec
    from services.inference.core.types import Array, Outputs

PREDICTION = "prediction"
PROBABILITY = "probability"
MODEL_VERSION = "model_version"
TIMESTAMP = "inference_timestamp"
ADDED = (PREDICTION, PROBABILITY, MODEL_VERSION, TIMESTAMP)
"""Columns that a job adds to those of its input."""

_TAKES: dict[Kind, tuple[str, Callable[[pa.DataType], bool]]] = {
    Kind.FLOAT: ("a number", lambda t: pa.types.is_integer(t) or pa.types.is_floating(t) or pa.types.is_decimal(t)),
    Kind.INTEGER: ("an integer", pa.types.is_integer),
    Kind.BOOLEAN: ("true or false", pa.types.is_boolean),
    Kind.TEXT: ("text", lambda t: pa.types.is_string(t) or pa.types.is_large_string(t)),
}
"""Arrow types that a feature of each kind takes, and what they are called."""


def check_schema(columns: pa.Schema, schema: Schema, where: str) -> None:
    """Refuse columns that lack an input of the model or have it in another type; before any row is read."""
    for name in [spec.name for spec in schema.inputs]:
        if name not in columns.names:
            near = difflib.get_close_matches(name, columns.names, n=1)
            raise InvalidInput(
                f"{where}: no column {name!r}",
                f"the model takes {len(schema.inputs)} inputs by name",
                f"rename {near[0]!r}" if near else f"add it to {', '.join(columns.names[:8])}",
                field=name,
            )
    for feature in schema.features:
        wanted, takes = _TAKES[feature.kind]
        given = columns.field(feature.name).type
        if not takes(given.value_type if pa.types.is_dictionary(given) else given):
            raise InvalidInput(
                f"{where}: column {feature.name!r} is {given}",
                f"the model takes {wanted} there",
                "write the column in that type",
                field=feature.name,
            )
    for spec in schema.tensors:
        _check_tensor(columns.field(spec.name).type, spec, where)


def _check_tensor(given: pa.DataType, spec: TensorSpec, where: str) -> None:
    depth = 0
    while pa.types.is_list(given) or pa.types.is_large_list(given) or pa.types.is_fixed_size_list(given):
        given, depth = given.value_type, depth + 1
    numeric = pa.types.is_integer(given) or pa.types.is_floating(given) or pa.types.is_boolean(given)
    if depth != min(len(spec.shape) - 1, depth) or not (numeric or pa.types.is_string(given)):
        raise InvalidInput(
            f"{where}: column {spec.name!r} is {depth} lists of {given}",
            f"the model takes {spec.datatype} {list(spec.shape)} there",
            "write each row's tensor as a list",
            field=spec.name,
        )


def to_rows(batch: pa.RecordBatch, schema: Schema) -> Rows:
    """The model's inputs of a batch, unchecked but for their shapes: null is NaN or None."""
    if schema.tensors:
        return Rows(*[_tensor(batch.column(spec.name), spec) for spec in schema.tensors])
    numbers = np.empty((batch.num_rows, len(schema.numeric)), dtype=np.float64)
    for at, feature in enumerate(schema.numeric):
        numbers[:, at] = _numbers(batch.column(feature.name), feature)
    if not schema.text:
        return Rows(numbers)
    texts = np.empty((batch.num_rows, len(schema.text)), dtype=object)
    for at, feature in enumerate(schema.text):
        texts[:, at] = _plain(batch.column(feature.name)).to_numpy(zero_copy_only=False)
    return Rows(numbers, texts)


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _numbers(column: pa.Array, feature: Feature) -> Array:
    column = _plain(column)
    if feature.kind is Kind.INTEGER and column.type.bit_width == 64:  # noqa: PLR2004  # float64 counts to 2^53
        within = pc.and_(
            pc.less_equal(column, pa.scalar(EXACT_INTEGER, column.type)),
            pc.greater_equal(
                column, pa.scalar(0 if pa.types.is_unsigned_integer(column.type) else -EXACT_INTEGER, column.type)
            ),
        )
        # Beyond, a float64 might be another integer: infinity is refused as it should be.
        column = pc.if_else(pc.fill_null(within, True), column.cast(pa.float64(), safe=False), np.inf)  # noqa: FBT003
    if column.type != pa.float64():
        column = (column.cast(pa.uint8()) if pa.types.is_boolean(column.type) else column).cast(
            pa.float64(), safe=False
        )
    found: Array = column.to_numpy(zero_copy_only=False)  # null becomes NaN
    return found


def _tensor(column: pa.Array, spec: TensorSpec) -> Array:
    shape = (len(column), *spec.shape[1:])
    flat: Any = column
    while not (pa.types.is_primitive(flat.type) or pa.types.is_string(flat.type)):
        flat = flat.flatten()
    values: Array = flat.to_numpy(zero_copy_only=False)
    try:
        if spec.datatype == "BYTES":
            return np.array([str(each).encode() for each in values], dtype=object).reshape(shape)
        return values.astype(spec.dtype, casting="same_kind").reshape(shape)
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            f"column {spec.name!r}: {error}"[:200],
            f"every row holds one tensor {spec.datatype} {list(spec.shape)}, without null",
            "correct the rows",
            field=spec.name,
        ) from error


def result_schema(passed: pa.Schema, info: ModelInfo) -> pa.Schema:
    """Columns of the output: those that are passed through, then ours. Only the parts' own results could tell more."""
    numbers = {spec.name: spec for spec in info.metadata.outputs}
    prediction = numbers.get(PREDICTION) or numbers[info.metadata.score]
    return pa.schema(
        [
            *[field.remove_metadata() for field in passed],
            pa.field(PREDICTION, _arrow_type(prediction)),
            pa.field(PROBABILITY, _arrow_type(numbers[PROBABILITY]) if PROBABILITY in numbers else pa.float32()),
            pa.field(MODEL_VERSION, pa.dictionary(pa.int32(), pa.string())),
            pa.field(TIMESTAMP, pa.timestamp("us", tz="UTC")),
        ]
    )


def _arrow_type(spec: TensorSpec) -> pa.DataType:
    value = pa.string() if spec.datatype == "BYTES" else pa.from_numpy_dtype(spec.dtype)
    for _ in spec.shape[1:]:
        value = pa.list_(value)
    return value


def to_result(
    passed: Sequence[pa.Array], outputs: Outputs, schema: pa.Schema, info: ModelInfo, at: datetime
) -> pa.RecordBatch:
    """A batch of the output; `passed` are the columns of the rows that were scored."""
    rows = len(next(iter(outputs.values())))
    prediction = outputs.get(PREDICTION)
    if prediction is None:  # a pyfunc may name its result as it likes
        prediction = outputs[info.metadata.score]
    probability = outputs.get(PROBABILITY)
    types = {field.name: field.type for field in schema}
    added = [
        _array(prediction, types[PREDICTION]),
        pa.nulls(rows, types[PROBABILITY]) if probability is None else _array(probability, types[PROBABILITY]),
        pa.repeat(pa.scalar(info.version), rows).dictionary_encode(),
        pa.repeat(pa.scalar(at, types[TIMESTAMP]), rows),
    ]
    return pa.RecordBatch.from_arrays([*passed, *added], schema=schema)


def _array(values: Array, wanted: pa.DataType) -> pa.Array:
    if values.ndim == 1 and values.dtype != object:
        return pa.array(values).cast(wanted)
    return pa.array(values.tolist(), wanted)
