"""JSON values → `Rows`, with every refusal naming its feature and row."""

from __future__ import annotations

import difflib
import math
import struct
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from services.inference.core.codec.base import json_type, shown
from services.inference.core.errors import InvalidRequest, InvalidValue, MalformedBody, MissingFeature
from services.inference.core.schema import EXACT_INTEGER, Feature, Kind, Schema, TensorSpec
from services.inference.core.types import Array, Rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def from_objects(rows: Sequence[Any], schema: Schema, where: str) -> Rows:
    """Rows given as objects by feature name.

    Names that the model does not know are ignored: while two releases with different
    features share the traffic, a caller sends the features of both.
    """
    if not rows:
        raise _empty(where)
    try:
        lists = list(map(schema.values_of, rows))
    except (KeyError, TypeError, IndexError) as error:
        raise _explain_objects(rows, schema, where) from error
    return _from_lists(lists, schema)


def from_arrays(rows: Sequence[Any], schema: Schema, where: str) -> Rows:
    """Rows given as arrays of values in schema order."""
    width = len(schema.features)
    if not rows:
        raise _empty(where)
    for at, row in enumerate(rows):
        if not isinstance(row, list):
            raise MalformedBody(
                f"{where}[{at}] is a JSON {json_type(row)}",
                "rows are all objects or all arrays",
                f"send each row as an array of {width} values",
            )
        if len(row) != width:
            raise InvalidValue(
                f"{where}[{at}] has {len(row)} values",
                f"a row has {width}, in the order of the model's features",
                "send one value per feature, or an object with their names",
            )
    return _from_lists(rows, schema)


def from_columns(columns: Mapping[str, Array], schema: Schema) -> Rows:
    """Rows given as one array [rows] per feature, of its own dtype; objects for text."""
    rows = len(next(iter(columns.values())))
    numbers = np.empty((rows, len(schema.numeric)), dtype=np.float64)
    for at, feature in enumerate(schema.numeric):
        numbers[:, at] = exact(columns[feature.name], feature)
    if not schema.text:
        return checked(Rows(numbers), schema)
    texts = np.empty((rows, len(schema.text)), dtype=object)
    for at, feature in enumerate(schema.text):
        texts[:, at] = columns[feature.name]
    return checked(Rows(numbers, texts), schema)


def exact(column: Array, feature: Feature) -> Array:
    """The values of one feature, [rows], if float64 holds them as they are: an integer too large is refused."""
    if feature.kind is Kind.INTEGER and column.dtype.kind in "iu":
        wrong = (column > EXACT_INTEGER) | (column < -EXACT_INTEGER)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise refused(feature, int(column[row]), row)
    return column


def from_nested(rows: Sequence[Any], schema: Schema, where: str) -> Rows:
    """Rows of a model of tensors: each an object of nested arrays by tensor, or of one tensor that array itself."""
    if not rows:
        raise _empty(where)
    specs = schema.tensors
    if not isinstance(rows[0], dict):
        if len(specs) != 1:
            raise MalformedBody(
                f"{where}[0] is a JSON {json_type(rows[0])}",
                f"the model takes {len(specs)} tensors: {', '.join(spec.name for spec in specs)}",
                "send each row as an object of arrays by tensor",
            )
        return Rows(_nested(specs[0], rows, where))
    blocks = []
    for spec in specs:
        for at, row in enumerate(rows):
            if not isinstance(row, dict) or spec.name not in row:
                raise MissingFeature(
                    f"{where}[{at}] has no {spec.name!r}",
                    f"the model takes {len(specs)} tensors",
                    "send it in every row",
                    field=spec.name,
                )
        blocks.append(_nested(spec, [row[spec.name] for row in rows], where))
    return Rows(*blocks)


def _nested(spec: TensorSpec, values: Sequence[Any], where: str) -> Array:
    """One tensor of all rows."""
    wanted = f"{spec.datatype} {list(spec.shape)}"
    array: Array
    try:
        if spec.datatype == "BYTES":
            array = np.vectorize(str.encode, otypes=[object])(np.array(values, dtype=object))
        else:
            array = np.asarray(values).astype(spec.dtype, casting="same_kind")
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidValue(
            f"{where}: {spec.name!r}: {error}"[:200], f"it is {wanted}", "correct it", field=spec.name
        ) from error
    if not spec.fits(array.shape):
        raise InvalidValue(
            f"{where}: {spec.name!r} has shape {list(array.shape)}", f"it is {wanted}", "correct it", field=spec.name
        )
    return array


def packed(values: Sequence[Any]) -> Array | None:
    """Parsed JSON values as float64, [values]; None where one is no number, or an integer beyond float64.

    `struct` reads a list in a third of numpy's time, and refuses all but numbers and booleans.
    """
    numbers = np.empty(len(values))
    try:
        struct.pack_into(f"{len(values)}d", numbers.data, 0, *values)
    except struct.error:
        return None
    may_be_booleans = ((numbers == 0) | (numbers == 1)).any()
    return None if may_be_booleans and bool in map(type, values) else numbers


def checked(rows: Rows, schema: Schema) -> Rows:
    """Refuse what a feature does not take; NaN stands for null, as columnar formats have it."""
    finite = np.isfinite(rows.numbers)
    if not finite.all():
        for row, at in np.argwhere(~finite):
            feature, value = schema.numeric[at], rows.numbers[row, at]
            if math.isinf(value) or not feature.nullable:
                raise refused(feature, float(value), int(row))
    for at, feature in enumerate(schema.numeric):
        if feature.kind in (Kind.INTEGER, Kind.BOOLEAN):
            _check_integers(rows.numbers[:, at], feature)
    for at, feature in enumerate(schema.text):
        for row, value in enumerate(rows.texts[:, at]):
            if not (isinstance(value, str) or (value is None and feature.nullable)):
                raise refused(feature, value, row)
    return rows


def refused(feature: Feature, value: object, row: int) -> InvalidValue:
    """The error for one value of one feature."""
    wanted = {Kind.FLOAT: "a finite number", Kind.INTEGER: "an integer", Kind.BOOLEAN: "true or false"}
    rule = wanted.get(feature.kind, "a string") + (" or null" if feature.nullable else "")
    text = "null" if value is None else repr(value)[:40] if isinstance(value, str) else shown(value)
    missing = isinstance(value, float) and math.isnan(value)
    remedy = "send null for a missing value" if missing and feature.nullable else f"send {rule}"
    return InvalidValue(f"feature {feature.name!r} is {text} in row {row}", f"it is {rule}", remedy, field=feature.name)


def _from_lists(rows: Sequence[Sequence[Any]], schema: Schema) -> Rows:
    """Values in schema order, already of the right width."""
    if schema.plain:
        numbers = packed(list(chain.from_iterable(rows)))
        if numbers is not None and np.isfinite(numbers).all():
            return Rows(numbers.reshape(len(rows), -1))
    return _one_by_one(rows, schema)


def _one_by_one(rows: Sequence[Sequence[Any]], schema: Schema) -> Rows:
    numbers = np.empty((len(rows), len(schema.numeric)), dtype=np.float64)
    texts = np.empty((len(rows), len(schema.text)), dtype=object)
    for row, values in enumerate(rows):
        number_at = text_at = 0
        for feature, value in zip(schema.features, values, strict=True):
            if not _accepts(feature, value):
                raise refused(feature, value, row)
            if feature.kind is Kind.TEXT:
                texts[row, text_at] = value
                text_at += 1
            else:
                numbers[row, number_at] = math.nan if value is None else value
                number_at += 1
    return Rows(numbers, texts) if schema.text else Rows(numbers)


def _accepts(feature: Feature, value: object) -> bool:  # noqa: PLR0911  # one line per kind
    """Whether a parsed JSON value is one of the feature's."""
    if value is None:
        return feature.nullable
    if feature.kind is Kind.TEXT:
        return isinstance(value, str)
    if feature.kind is Kind.BOOLEAN:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if feature.kind is Kind.INTEGER:
        return abs(value) <= EXACT_INTEGER and value == int(value)
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _check_integers(column: Array, feature: Feature) -> None:
    bound = 1 if feature.kind is Kind.BOOLEAN else EXACT_INTEGER
    low = 0 if feature.kind is Kind.BOOLEAN else -EXACT_INTEGER
    given = np.nan_to_num(column)
    wrong = (given != np.floor(given)) | (given > bound) | (given < low)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise refused(feature, float(column[row]), row)


def _explain_objects(rows: Sequence[Any], schema: Schema, where: str) -> InvalidRequest:
    """Find out which row or name made the quick path fail."""
    for at, row in enumerate(rows):
        if not isinstance(row, dict):
            return MalformedBody(
                f"{where}[{at}] is a JSON {json_type(row)}",
                "rows are all objects or all arrays",
                "send each row as an object of feature values",
            )
        absent = [name for name in schema.names if name not in row]
        if absent:
            others = [name for name in row if name not in schema.names]
            near = difflib.get_close_matches(absent[0], others, n=1)
            more = f" (and {len(absent) - 1} more: {', '.join(absent[1:6])})" if absent[1:] else ""
            return MissingFeature(
                f"row {at} has no feature {absent[0]!r}{more}",
                f"the model takes {len(schema.names)} features",
                f"rename {near[0]!r}" if near else "send it in every row",
                field=absent[0],
            )
    return MalformedBody(f"{where} cannot be read", "rows are objects by feature name", "see /docs for an example")


def _empty(where: str) -> MalformedBody:
    return MalformedBody(f"{where} is empty", "a request has at least one row", "send a row")
