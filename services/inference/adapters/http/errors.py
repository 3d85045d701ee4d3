"""Domain errors → HTTP, in the shape of the protocol that was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.responses import Response

from services.inference.core.errors import (
    DeadlineExceeded,
    InferenceError,
    InvalidRequest,
    LoadError,
    MalformedBody,
    ModelNotFound,
    Overloaded,
    PredictionFailed,
    RequestTooLarge,
    Unavailable,
)

if TYPE_CHECKING:
    from starlette.requests import Request

    from services.inference.core.types import Ran

PREDICT, V1, V2, MLFLOW, OTHER = "predict", "v1", "v2", "mlflow", "other"
"""Protocols, as the label of the metrics has them."""

UNPROCESSABLE, BAD_REQUEST = 422, 400

_log = structlog.stdlib.get_logger("slipway.http")


class Reply(NamedTuple):
    """An HTTP answer, before a server writes it."""

    status: int
    media_type: bytes
    content: bytes
    request_id: str
    more: list[tuple[bytes, bytes]]
    """Headers besides content type, content length and the request's id."""
    ran: Ran | None = None


def protocol_of(path: str) -> str:
    """The protocol that a path belongs to."""
    if path.startswith("/v1/"):
        return V1
    if path == "/v2" or path.startswith("/v2/"):
        return V2
    return {"/predict": PREDICT, "/invocations": MLFLOW}.get(path, OTHER)


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
        (DeadlineExceeded, 504),
        (Unavailable, 503),
        (LoadError, 503),
    )
    return next((status for kind, status in table if isinstance(error, kind)), 500)


def describe(error: Exception, protocol: str, request_id: str, path: str = "") -> Reply:
    """The answer to a request that failed. Only messages written for callers leave the process."""
    code, message, field = "internal", "the service failed → see its log by request id → report it", ""
    if isinstance(error, InferenceError):
        code, message, field = error.code, str(error), error.field
    elif isinstance(error, HTTPException):
        code, message = "http", f"{path[:200]}: {error.detail} → see /docs for the paths of this service"
    if isinstance(error, PredictionFailed) or code == "internal":
        _log.error("request failed", request_id=request_id, exc_info=error)
    body: dict[str, object] = {"error": message}
    if protocol == MLFLOW:
        kind = "BAD_REQUEST" if isinstance(error, InvalidRequest) else "INTERNAL_ERROR"
        body = {"error_code": kind, "message": message}
    elif protocol not in (V1, V2):
        body = {"error": code, "message": message, "field": field or None, "request_id": request_id}
    more = [(b"retry-after", b"%d" % error.retry_after)] if isinstance(error, Unavailable) else []
    if isinstance(error, HTTPException) and error.headers:
        more += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    return Reply(status_of(error, protocol), b"application/json", orjson.dumps(body), request_id, more)


def to_starlette(reply: Reply) -> Response:
    """The same answer for a route."""
    headers = {name.decode(): value.decode() for name, value in reply.more}
    return Response(reply.content, reply.status, headers, reply.media_type.decode())


async def on_error(request: Request, error: Exception) -> Response:
    """Starlette's handler for every error that we know."""
    path = request.url.path
    return to_starlette(describe(error, protocol_of(path), str(request.state.request_id), path))
