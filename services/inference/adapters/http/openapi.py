"""What the OpenAPI page says about bodies, which endpoints read themselves."""

from __future__ import annotations

from typing import Any

_ROW = {"mean radius": 17.99, "mean texture": 10.38}


def body(description: str, example: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of an endpoint with a JSON body."""
    content = {"application/json": {"schema": {"type": "object", "description": description}, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def answer(description: str, example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """`responses` of an endpoint."""
    return {
        200: {"description": description, "content": {"application/json": {"example": example}}},
        "4XX": {"description": "The request is refused; the message names the feature, tensor or model."},
        "5XX": {"description": "The service cannot answer now; see Retry-After."},
    }


PREDICT_BODY = body(
    "`features` (an object by name, or an array of them) and an optional `request_id`.",
    {"features": _ROW, "request_id": "order-4711"},
)
PREDICT_ANSWER = answer(
    "One answer, or lists where `features` was a list.",
    {"prediction": 1, "probability": 0.98, "model_version": "7", "request_id": "order-4711", "latency_ms": 0.41},
)
MLFLOW_BODY = body(
    "One of `dataframe_split`, `dataframe_records`, `instances`, `inputs`, and optional `params`; or text/csv.",
    {"dataframe_split": {"columns": ["mean radius", "mean texture"], "data": [[17.99, 10.38]]}},
)
MLFLOW_ANSWER = answer(
    "A list where the model has one output, a record per row where it has several.",
    {"predictions": [{"probability": 0.98, "prediction": 1}]},
)
V1_BODY = body("`instances`: rows as objects by feature name or arrays in feature order.", {"instances": [_ROW]})
V1_ANSWER = answer(
    "One number per instance: the score that `threshold` applies to, else the prediction.",
    {"predictions": [0.98], "model_version": "7", "threshold": 0.42},
)
V2_BODY = body(
    "One tensor [rows, features] in feature order, or one tensor per feature, named after it.",
    {
        "id": "order-4711",
        "inputs": [{"name": "features", "shape": [1, 2], "datatype": "FP64", "data": [17.99, 10.38]}],
        "outputs": [{"name": "probability"}],
    },
)
V2_ANSWER = answer(
    "The selected outputs, one tensor each.",
    {
        "model_name": "breast-cancer",
        "model_version": "7",
        "id": "order-4711",
        "outputs": [{"name": "probability", "datatype": "FP32", "shape": [1], "data": [0.98]}],
    },
)
