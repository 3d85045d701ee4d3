"""MLflow's scoring protocol, `/invocations`.

Request: JSON with one of `dataframe_split`, `dataframe_records`, `instances`, `inputs`, and optionally `params`; or CSV
with a header. Answer: `{"predictions": …}`: a list where the model has one output, else a record per row.
"""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from services.inference.core.codec.base import Body, json_type, read_object, write
from services.inference.core.codec.rows import from_arrays, from_nested, from_objects
from services.inference.core.errors import InvalidValue, MalformedBody, MissingFeature
from services.inference.core.schema import Kind
from services.inference.core.types import Request

if TYPE_CHECKING:
    from services.inference.core.schema import Feature, ModelInfo, Schema
    from services.inference.core.types import Array, Parameters, Response, Rows

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class MlflowCodec:
    """Data frames and tensors as MLflow's clients send them."""

    def decode(self, body: Body, model: ModelInfo) -> Request:
        """Read a request; `InvalidRequest` names what is wrong with it."""
        schema = model.metadata.schema
        if body.media_type.partition(b";")[0].strip().lower() in (b"text/csv", b"application/csv"):
            return Request(rows=_from_csv(bytes(body.content), schema))
        message = read_object(body.content)
        given = [form for form in FORMS if form in message]
        if len(given) != 1:
            raise MalformedBody(
                f"the body has {' and '.join(given) or 'none of the forms'}",
                f"it has one of {', '.join(FORMS)}",
                "see /docs for an example",
            )
        form = given[0]
        value = message[form]
        if form == "dataframe_split":
            rows = _from_split(value, schema)
        elif form == "dataframe_records":
            rows = from_objects(_list(value, form), schema, form)
        else:
            rows = _from_instances(_transposed(value, schema), schema, form)
        return Request(rows=rows, parameters=_parameters(message.get("params")))

    def encode(self, request: Request, response: Response, model: ModelInfo) -> Body:  # noqa: ARG002
        """Write the answer."""
        wanted = model.metadata.function_output
        outputs = {wanted: response.outputs[wanted]} if wanted else dict(response.outputs)
        if len(outputs) == 1:
            return Body(write({"predictions": _plain(next(iter(outputs.values())))}))
        columns = {name: _plain(values) for name, values in outputs.items()}
        records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return Body(write({"predictions": records}))


def _plain(values: Array) -> list[Any]:
    found: list[Any] = values.tolist()
    return found


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedBody(
            f"{where!r} is a JSON {json_type(value)}", "it is an array of rows", "see /docs", field=where
        )
    return value


def _from_split(value: Any, schema: Schema) -> Rows:
    where = "dataframe_split"
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise MalformedBody(
            f"{where!r} has no 'data'", "it is what pandas' to_dict(orient='split') gives", "see /docs", field=where
        )
    columns = value.get("columns")
    if columns is None:
        return from_arrays(value["data"], schema, where)
    order = _order(columns, schema, where)
    rows = []
    for at, row in enumerate(value["data"]):
        if not isinstance(row, list) or len(row) != len(columns):
            found = f"{len(row)} values" if isinstance(row, list) else f"a JSON {json_type(row)}"
            raise InvalidValue(f"{where}.data[{at}] is {found}", f"a row has {len(columns)} values", "send them all")
        rows.append([row[index] for index in order])
    return from_arrays(rows, schema, where)


def _order(columns: Any, schema: Schema, where: str) -> list[int]:
    """Where each feature stands among the columns."""
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise MalformedBody(f"{where}.columns is no array of names", "columns are names", "see /docs", field="columns")
    index = {name: at for at, name in enumerate(columns)}
    absent = [name for name in schema.names if name not in index]
    if absent:
        raise MissingFeature(
            f"there is no column {absent[0]!r}" + (f" (and {len(absent) - 1} more)" if absent[1:] else ""),
            f"the model takes {len(schema.names)} features",
            "send it in every row",
            field=absent[0],
        )
    return [index[name] for name in schema.names]


def _transposed(value: Any, schema: Schema) -> Any:
    """An object of columns, or of tensors, as rows; anything else as it is."""
    if not isinstance(value, dict):
        return value
    names = [spec.name for spec in schema.tensors] or list(schema.names)
    for name in names:
        if name not in value:
            raise MissingFeature(f"there is no {name!r}", f"the model takes {len(names)}", "send it", field=name)
    columns = [value[name] if isinstance(value[name], list) else [value[name]] for name in names]
    lengths = {name: len(column) for name, column in zip(names, columns, strict=True)}
    if len(set(lengths.values())) != 1:
        raise InvalidValue(f"columns have {lengths}"[:200] + " values", "all have as many rows", "send them all")
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _from_instances(value: Any, schema: Schema, where: str) -> Rows:
    rows = _list(value, where)
    if schema.tensors:
        return from_nested(rows, schema, where)
    return (from_arrays if rows and isinstance(rows[0], list) else from_objects)(rows, schema, where)


def _parameters(value: Any) -> Parameters:
    if value is None:
        return ()
    if not isinstance(value, dict) or not all(isinstance(each, (str, int, float, bool)) for each in value.values()):
        raise MalformedBody("'params' are not plain values", "a parameter is a string, number or boolean", "see /docs")
    return tuple(sorted(value.items()))


def _from_csv(content: bytes, schema: Schema) -> Rows:
    if schema.tensors:
        raise MalformedBody("the body is CSV", "the model takes tensors", "send JSON")
    try:
        lines = list(csv.reader(io.StringIO(content.decode("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise MalformedBody(f"the body is no CSV ({error})", "it is UTF-8 with a header", "correct it") from error
    filled = [line for line in lines if line]
    if not filled:
        raise MalformedBody("the CSV is empty", "it has a header and at least one row", "send a row")
    columns, *data = filled
    order = _order(columns, schema, "csv")
    rows = []
    for at, line in enumerate(data):
        if len(line) != len(columns):
            raise InvalidValue(f"row {at} has {len(line)} values", f"the header has {len(columns)}", "correct the row")
        rows.append([_cell(line[i], feature) for i, feature in zip(order, schema.features, strict=True)])
    return from_arrays(rows, schema, "csv")


def _cell(text: str, feature: Feature) -> Any:
    """A cell as JSON would have it; what cannot be read stays text, and is refused by its feature's name."""
    if feature.kind is Kind.TEXT:
        return text
    if text == "":
        return None
    if feature.kind is Kind.BOOLEAN:
        return {"true": True, "false": False, "1": True, "0": False}.get(text.strip().lower(), text)
    try:
        number = float(text)
    except ValueError:
        return text
    return (
        int(number) if feature.kind is Kind.INTEGER and math.isfinite(number) and number == np.floor(number) else number
    )
