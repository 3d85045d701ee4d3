"""The `/predict` protocol.

Request: `{"features": {name: value} | [{name: value}, …], "request_id": "…"}`.
Answer: `prediction`, `probability` (null for regression), `model_version`, `request_id`, `latency_ms`;
the first two are lists where `features` was one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.inference.core.codec.base import Body, json_type, read_object, write
from services.inference.core.codec.rows import from_nested, from_objects
from services.inference.core.errors import MalformedBody
from services.inference.core.types import Request

if TYPE_CHECKING:
    from services.inference.core.schema import ModelInfo
    from services.inference.core.types import Response

MAX_ID_LENGTH = 256
"""Characters of a request id: ids are logged and echoed, so they are bounded."""


class PredictCodec:
    """Features by name, one row or several."""

    def decode(self, body: Body, model: ModelInfo) -> Request:
        """Read a request; `InvalidRequest` names what is wrong with it."""
        message = read_object(body.content)
        features = message.get("features")
        schema = model.metadata.schema
        single = isinstance(features, dict)
        if not isinstance(features, (dict, list)):
            found = "there is no 'features'" if "features" not in message else f"'features' is a {json_type(features)}"
            raise MalformedBody(
                found, "features are an object by name, or an array of such objects", "see /docs", field="features"
            )
        given = [features] if isinstance(features, dict) else features
        rows = (from_nested if schema.tensors else from_objects)(given, schema, "features")
        return Request(rows=rows, id=read_id(message, "request_id"), single=single)

    def encode(self, request: Request, response: Response, model: ModelInfo) -> Body:
        """Write the answer."""
        outputs = response.outputs
        prediction = outputs.get("prediction")
        if prediction is None:  # a pyfunc may name its result as it likes
            prediction = outputs[model.metadata.score]
        probability = outputs.get("probability")
        return Body(
            write(
                {
                    "prediction": prediction[0] if request.single else prediction,
                    "probability": probability if probability is None or not request.single else probability[0],
                    "model_version": model.version,
                    "request_id": response.id,
                    "latency_ms": round(response.seconds * 1e3, 3),
                }
            )
        )


def read_id(message: dict[str, Any], key: str) -> str:
    """The caller's id, empty where there is none."""
    value = message.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_ID_LENGTH:
        raise MalformedBody(
            f"{key!r} is a {json_type(value)}"
            if not isinstance(value, str)
            else f"{key!r} has {len(value)} characters",
            f"it is a string of at most {MAX_ID_LENGTH} characters",
            "send a shorter string or leave it out",
            field=key,
        )
    return value
