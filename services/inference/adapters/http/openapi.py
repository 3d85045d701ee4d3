"""What the OpenAPI page says: bodies, which endpoints read themselves, and every status with its body and headers.

Schemas are as strict as the codecs and no stricter, whatever the model is: tests hold the service to both.
"""

from __future__ import annotations

from typing import Any

import orjson

from services.inference.adapters.http.errors import MLFLOW, OTHER, PREDICT, V1, V2
from services.inference.core.codec.predict import MAX_ID_LENGTH
from services.inference.core.schema import DATATYPES

Described = dict[str, Any]
Responses = dict[int | str, Described]

JSON, OCTETS, CSV = "application/json", "application/octet-stream", "text/csv"

_ROW = {"mean radius": 17.99, "mean texture": 10.38}
_COLUMNS = {"columns": ["mean radius", "mean texture"], "data": [[17.99, 10.38]]}


def _object(required: Described, optional: Described | None = None) -> Described:
    """An object; further members are allowed, as all protocols do."""
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _array(items: Described | None = None, least: int = 0) -> Described:
    return {"type": "array", "items": items or {}, "minItems": least}


_TEXT, _NUMBER, _FLAG = {"type": "string"}, {"type": "number"}, {"type": "boolean"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_ID = {"type": ["string", "null"], "maxLength": MAX_ID_LENGTH}
_PARAMETERS = {"type": ["object", "null"], "additionalProperties": {"type": ["string", "number", "boolean"]}}
_COUNT = {"type": "integer", "minimum": 1}

_ERRORS = {
    **dict.fromkeys((V1, V2), _object({"error": _TEXT})),
    MLFLOW: _object({"error_code": _TEXT, "message": _TEXT}),
    **dict.fromkeys(
        (PREDICT, OTHER), _object({"error": _TEXT, "message": _TEXT, "field": _MAYBE_TEXT, "request_id": _TEXT})
    ),
}
"""The body of an error, by protocol; `errors.describe` writes them."""

_REASONS = {
    400: "The request is refused; the message names the feature, tensor or parameter.",
    401: "The token is missing or wrong.",
    403: "The repository extension is off.",
    404: "No such model or version is served here.",
    413: "The body, or its number of rows, is beyond the limit.",
    422: "A feature is missing or has a wrong value; `field` names it.",
    429: "More is waiting than can be answered in time.",
    500: "The model or the service failed; its log has the request id.",
    503: "The model is not ready, or the process drains.",
    504: "The caller's time was over before there was an answer.",
}
_RETRY = frozenset({429, 503})

_HEADERS: Described = {
    "x-request-id": {"description": "The caller's id, or one made here.", "required": True, "schema": _TEXT},
    "x-model-version": {"description": "The release that answered.", "required": True, "schema": _TEXT},
}
_RETRY_AFTER: Described = {
    "retry-after": {"description": "Seconds until a new try may pay.", "schema": {"type": "integer", "minimum": 1}}
}
JSON_BYTES = "Inference-Header-Content-Length"
_JSON_BYTES_RULE = "Length of the JSON in front of binary tensors, in bytes; without it the body is JSON alone."


def responses(protocol: str, *statuses: int, ok: Described) -> Responses:
    """`responses` of an endpoint: `ok` is the content of 200 by media type, every other status has the error's body."""
    found: Responses = {200: {"description": "Done.", "headers": _HEADERS, "content": ok}}
    for status in statuses:
        headers = _HEADERS | _RETRY_AFTER if status in _RETRY else _HEADERS
        content = {JSON: {"schema": _ERRORS[protocol]}}
        found[status] = {"description": _REASONS[status], "headers": headers, "content": content}
    return found


def unready(protocol: str, ok: Described, refused: Described, *statuses: int) -> Responses:
    """The same of a probe whose 503 has a body of its own."""
    found = responses(protocol, *statuses, 503, ok=ok)
    found[503] = {"description": _REASONS[503], "headers": _HEADERS, "content": refused}
    return found


def content(schema: Described, example: object = None) -> Described:
    """JSON content."""
    return {JSON: {"schema": schema} | ({} if example is None else {"example": example})}


def _body(contents: Described, *, required: bool = True) -> Described:
    """`openapi_extra` of an endpoint that reads its body itself."""
    return {"requestBody": {"required": required, "content": contents}}


_PREDICTING = (400, 413, 429, 500, 503, 504)
"""What may come of every prediction besides an answer."""

PREDICT_BODY = _body(
    content(
        _object(
            {
                "features": {
                    "description": "An object by feature name, or an array of them.",
                    "anyOf": [{"type": "object", "minProperties": 1}, _array(least=1)],
                }
            },
            {"request_id": _ID},
        ),
        {"features": _ROW, "request_id": "order-4711"},
    )
)
PREDICT_ANSWER = responses(
    PREDICT,
    *_PREDICTING,
    422,
    ok=content(
        _object(
            {
                "prediction": {"description": "A list where `features` was one."},
                "probability": {"description": "null for regression; a list where `features` was one."},
                "model_version": _TEXT,
                "request_id": _TEXT,
                "latency_ms": _NUMBER,
            }
        ),
        {"prediction": 1, "probability": 0.98, "model_version": "7", "request_id": "order-4711", "latency_ms": 0.41},
    ),
)

_FORMS: Described = {
    "dataframe_split": _object({"data": _array(least=1)}, {"columns": {"type": ["array", "null"], "items": _TEXT}}),
    "dataframe_records": _array(least=1),
    "instances": _array(least=1),
    "inputs": {"anyOf": [{"type": "object", "minProperties": 1}, _array(least=1)]},
}
MLFLOW_BODY = _body(
    {
        **content(
            {
                "type": "object",
                "properties": {**_FORMS, "params": _PARAMETERS},
                "oneOf": [{"required": [form]} for form in _FORMS],
            },
            {"dataframe_split": _COLUMNS},
        ),
        CSV: {
            "schema": {"type": "string", "description": "A header and a line for each row."},
            "example": "mean radius,mean texture\n17.99,10.38\n",
        },
    }
)
MLFLOW_ANSWER = responses(
    MLFLOW,
    *_PREDICTING,
    ok=content(
        _object({"predictions": _array()}),
        {"predictions": [{"probability": 0.98, "prediction": 1}]},
    ),
)

V1_BODY = _body(
    content(
        _object({"instances": _array(least=1) | {"description": "Objects by feature name, or arrays in their order."}}),
        {"instances": [_ROW]},
    )
)
V1_ANSWER = responses(
    V1,
    *_PREDICTING,
    404,
    ok=content(
        _object(
            {"predictions": _array(), "model_version": _TEXT, "threshold": {"type": ["number", "null"]}},
        ),
        {"predictions": [0.98], "model_version": "7", "threshold": 0.42},
    ),
)
V1_MODELS = responses(V1, ok=content(_object({"models": _array(_TEXT)}), {"models": ["breast-cancer"]}))

_READY = content(_object({"name": _TEXT, "ready": _FLAG}))
MODEL_READY = {protocol: unready(protocol, _READY, _READY, 404) for protocol in (V1, V2)}
"""By protocol."""


def _tensor(required: Described, optional: Described) -> Described:
    described = {"name": _TEXT, "shape": _array(_COUNT, 1), "datatype": {"type": "string", "enum": list(DATATYPES)}}
    return _object(described | required, {"parameters": _PARAMETERS} | optional)


_BINARY_TENSOR = {"name": "features", "shape": [1, 2], "datatype": "UINT8", "parameters": {"binary_data_size": 2}}
_BINARY_JSON = orjson.dumps({"inputs": [_BINARY_TENSOR], "parameters": {"binary_data_output": True}}).decode()
_BINARY_RULE = (
    "The binary tensor extension: JSON, then the values of each tensor with the parameter `binary_data_size`, in the "
    "order of `inputs`: little-endian, row-major, each BYTES element after its length as uint32. The header "
    f"`{JSON_BYTES}` is the JSON's length. Outputs come so where `binary_data_output` of the request or `binary_data` "
    "of an output asks for it."
)
V2_BODY = _body(
    {
        **content(
            _object(
                {"inputs": _array(_tensor({}, {"data": _array()}), 1)},
                {
                    "id": _ID,
                    "parameters": _PARAMETERS,
                    "outputs": {
                        "type": ["array", "null"],
                        "items": _object({"name": _TEXT}, {"parameters": _PARAMETERS}),
                    },
                },
            ),
            {
                "id": "order-4711",
                "inputs": [{"name": "features", "shape": [1, 2], "datatype": "FP64", "data": [17.99, 10.38]}],
                "outputs": [{"name": "probability"}],
            },
        ),
        OCTETS: {
            "schema": {"type": "string", "format": "binary", "description": _BINARY_RULE},
            # Of UINT8, so that the two values behind the JSON, 42 and 33, can be shown: `*!`.
            "example": f"{_BINARY_JSON}*!",
        },
    }
) | {
    "parameters": [
        {
            "name": JSON_BYTES,
            "in": "header",
            "description": _JSON_BYTES_RULE,
            "schema": _COUNT,
            "examples": {"binary": {"value": len(_BINARY_JSON), "summary": "of the example in octets"}},
        }
    ]
}
_V2_OK = {
    **content(
        _object(
            {"model_name": _TEXT, "model_version": _TEXT, "outputs": _array(_tensor({}, {"data": _array()}))},
            {"id": _TEXT, "parameters": _PARAMETERS},
        ),
        {
            "model_name": "breast-cancer",
            "model_version": "7",
            "id": "order-4711",
            "outputs": [{"name": "probability", "datatype": "FP32", "shape": [1], "data": [0.98]}],
        },
    ),
    OCTETS: {"schema": {"type": "string", "format": "binary", "description": "As a request's; its header says where."}},
}
V2_ANSWER = responses(V2, *_PREDICTING, 404, ok=_V2_OK)
V2_ANSWER[200]["headers"] = _HEADERS | {JSON_BYTES: {"description": _JSON_BYTES_RULE, "schema": _COUNT}}

_DESCRIBED = _array(_object({"name": _TEXT, "datatype": _TEXT, "shape": _array({"type": "integer"})}))
V2_SERVER = responses(V2, ok=content(_object({"name": _TEXT, "version": _TEXT, "extensions": _array(_TEXT)})))
V2_LIVE = responses(V2, ok=content(_object({"live": _FLAG})))
V2_READY = responses(V2, 503, ok=content(_object({"ready": _FLAG})))
V2_METADATA = responses(
    V2,
    404,
    500,
    503,
    ok=content(
        _object(
            {"name": _TEXT, "versions": _array(_TEXT), "platform": _TEXT, "inputs": _DESCRIBED, "outputs": _DESCRIBED}
        )
    ),
)

_CONFIGURED = _array(_object({"name": _TEXT, "data_type": _TEXT, "dims": _array({"type": "integer"})}))
V2_CONFIGURATION = responses(
    V2,
    404,
    500,
    503,
    ok=content(
        _object(
            {
                "name": _TEXT,
                "platform": _TEXT,
                "max_batch_size": _COUNT,
                "input": _CONFIGURED,
                "output": _CONFIGURED,
            }
        )
    ),
)

REPOSITORY_SECURITY: Described = {"security": [{"token": []}]}
REPOSITORY_SCHEMES: Described = {
    "token": {"type": "http", "scheme": "bearer", "description": "The token of `SLIPWAY_REPOSITORY_TOKEN`."}
}
INDEX_BODY = _body(content(_object({}, {"ready": {}}), {"ready": True}), required=False) | REPOSITORY_SECURITY
INDEX_ANSWER = responses(
    V2,
    400,
    401,
    403,
    ok=content(
        _array(
            _object(
                {
                    "name": _TEXT,
                    "version": _TEXT,
                    "state": {"enum": ["READY", "LOADING", "UNAVAILABLE"]},
                    "reason": _TEXT,
                }
            )
        )
    ),
)
LOAD_ANSWER = responses(V2, 401, 403, 404, 503, ok=content(_object({})))
UNLOAD_ANSWER = responses(V2, 401, 403, 404, ok=content(_object({})))

_STATE = content(
    _object(
        {"status": _TEXT, "model": _TEXT, "version": _MAYBE_TEXT, "release": _TEXT, "digest": _MAYBE_TEXT},
    )
)
HEALTH_ANSWER = unready(OTHER, _STATE, _STATE)
METRICS_ANSWER = responses(OTHER, ok={"text/plain": {"schema": _TEXT}})


def complete(generated: Described) -> Described:
    """FastAPI's description with what it does not know, and without the answer that is never given.

    It says of every path with a parameter that it answers 422 in a form of its own; a text in a path is always valid.
    """
    for operations in generated["paths"].values():
        for operation in operations.values():
            answers = operation["responses"]
            if "HTTPValidationError" in str(answers.get("422")):
                del answers["422"]
    generated["components"] = {"securitySchemes": REPOSITORY_SCHEMES}
    return generated
