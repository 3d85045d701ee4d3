"""Domain errors → HTTP, in the shape of the protocol that was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from services.inference.core.errors import (
    InferenceError,
    InvalidRequest,
    MalformedBody,
    ModelNotFound,
    Overloaded,
    RequestTooLarge,
    Unavailable,
)

if TYPE_CHECKING:
    from starlette.requests import Request

PREDICT, V1, V2, OTHER = "predict", "v1", "v2", "other"
"""Protocols, as the label of the metrics has them."""

UNPROCESSABLE, BAD_REQUEST = 422, 400


def protocol_of(path: str) -> str:
    """The protocol that a path belongs to."""
    if path.startswith("/v1/"):
        return V1
    if path == "/v2" or path.startswith("/v2/"):
        return V2
    return PREDICT if path == "/predict" else OTHER


def status_of(error: Exception, protocol: str) -> int:
    """HTTP status of an error; what is not ours is a 500."""
    if isinstance(error, HTTPException):
        return error.status_code
    table: tuple[tuple[type[InferenceError], int], ...] = (
        (RequestTooLarge, 413),
        (MalformedBody, BAD_REQUEST),
        # Each protocol's own habit: V1 and V2 servers answer 400, an API of named features 422.
        (InvalidRequest, UNPROCESSABLE if protocol == PREDICT else BAD_REQUEST),
        (ModelNotFound, 404),
        (Overloaded, 429),
        (Unavailable, 503),
    )
    return next((status for kind, status in table if isinstance(error, kind)), 500)


def render_error(error: Exception, path: str, request_id: str) -> Response:
    """The answer to a request that failed. Only messages written for callers leave the process."""
    protocol = protocol_of(path)
    code, message, field = "internal", "the service failed → see its log by request id → report it", ""
    if isinstance(error, InferenceError):
        code, message, field = error.code, str(error), error.field
    elif isinstance(error, HTTPException):
        code, message = "http", f"{path[:200]}: {error.detail} → see /docs for the paths of this service"
    body: dict[str, object] = {"error": message}
    if protocol not in (V1, V2):
        body = {"error": code, "message": message, "field": field or None, "request_id": request_id}
    headers = {"retry-after": str(error.retry_after)} if isinstance(error, Unavailable) else {}
    if isinstance(error, HTTPException) and error.headers:
        headers.update(error.headers)
    return Response(orjson.dumps(body), status_of(error, protocol), headers, "application/json")


async def on_error(request: Request, error: Exception) -> Response:
    """Starlette's handler for every error that we know."""
    return render_error(error, request.url.path, str(request.state.request_id))
