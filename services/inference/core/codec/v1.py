"""The KServe V1 protocol.

Request: `{"instances": [row, …]}`, rows as objects by feature name or arrays in feature order.
Answer: `predictions` (one number per row: the probability of the positive class for binary
classification, which is what `threshold` applies to; else the prediction), `model_version`, `threshold`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.inference.core.codec.base import Body, json_type, read_object, write
from services.inference.core.codec.rows import from_arrays, from_nested, from_objects
from services.inference.core.errors import MalformedBody
from services.inference.core.types import Request

if TYPE_CHECKING:
    from services.inference.core.schema import ModelInfo
    from services.inference.core.types import Response


class V1Codec:
    """Instances in, predictions out."""

    def decode(self, body: Body, model: ModelInfo) -> Request:
        """Read a request; `InvalidRequest` names what is wrong with it."""
        message = read_object(body.content)
        instances = message.get("instances")
        if not isinstance(instances, list):
            found = (
                "there is no 'instances'" if "instances" not in message else f"'instances' is a {json_type(instances)}"
            )
            raise MalformedBody(found, "instances are an array of rows", "see /docs for an example", field="instances")
        schema = model.metadata.schema
        read = from_arrays if instances and isinstance(instances[0], list) else from_objects
        return Request(rows=(from_nested if schema.tensors else read)(instances, schema, "instances"))

    def encode(self, request: Request, response: Response, model: ModelInfo) -> Body:  # noqa: ARG002
        """Write the answer."""
        return Body(
            write(
                {
                    "predictions": response.outputs[model.metadata.score],
                    "model_version": model.version,
                    "threshold": model.metadata.threshold,
                }
            )
        )
