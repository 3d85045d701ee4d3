"""Errors → status codes of gRPC."""

from __future__ import annotations

from typing import NamedTuple

import structlog
from grpc import StatusCode

from services.inference.core.errors import (
    DeadlineExceeded,
    InferenceError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    PredictionFailed,
    Unavailable,
)

_log = structlog.stdlib.get_logger("slipway.grpc")

_CODES: tuple[tuple[type[InferenceError], StatusCode, int], ...] = (
    # Also for what is too large: RESOURCE_EXHAUSTED would ask the caller to try again.
    (InvalidRequest, StatusCode.INVALID_ARGUMENT, 400),
    (ModelNotFound, StatusCode.NOT_FOUND, 404),
    (Overloaded, StatusCode.RESOURCE_EXHAUSTED, 429),
    (DeadlineExceeded, StatusCode.DEADLINE_EXCEEDED, 504),
    (Unavailable, StatusCode.UNAVAILABLE, 503),
)


class Denied(Exception):  # noqa: N818  # the name says what happened
    """The caller may not do this: it has shown no token, a wrong one, or there is none to show."""

    def __init__(self, message: str, *, known: bool) -> None:
        super().__init__(message)
        self.known = known
        """Whether a right token would have helped."""


class Refusal(NamedTuple):
    """The answer to a call that failed."""

    code: StatusCode
    message: str
    status: int
    """HTTP's status for the same, by which the accounts count."""
    more: tuple[tuple[str, str], ...]
    """Trailing metadata besides what every answer has."""


def describe(error: Exception, request_id: str) -> Refusal:
    """What a caller hears of an error. Only messages written for callers leave the process."""
    if isinstance(error, Denied):
        code, status = (StatusCode.UNAUTHENTICATED, 401) if error.known else (StatusCode.PERMISSION_DENIED, 403)
        return Refusal(code, str(error), status, ())
    if not isinstance(error, InferenceError) or isinstance(error, PredictionFailed):
        _log.error("request failed", request_id=request_id, exc_info=error)
    if not isinstance(error, InferenceError):
        message = "the service failed → see its log by request id → report it"
        return Refusal(StatusCode.INTERNAL, message, 500, ())
    more = (("retry-after", str(error.retry_after)),) if isinstance(error, Unavailable) else ()
    for kind, code, status in _CODES:
        if isinstance(error, kind):
            return Refusal(code, str(error), status, more)
    return Refusal(StatusCode.INTERNAL, str(error), 500, more)
