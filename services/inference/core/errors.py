"""Errors of the domain; they carry no HTTP, each adapter maps them.

    InferenceError
    ├── InvalidRequest             the caller's request, refused
    │   ├── MalformedBody          not JSON, or not of the protocol's form
    │   ├── MissingFeature         a required feature is absent
    │   ├── InvalidValue           a value of the wrong type, shape or range
    │   └── RequestTooLarge        more bytes or rows than one request may have
    ├── ModelNotFound              no such model or version here
    ├── Unavailable                try again later
    │   ├── NotReady               the model is being loaded
    │   ├── Overloaded             more is waiting than can be answered in time
    │   └── ShuttingDown           the service is draining
    ├── DeadlineExceeded           the caller's time was over before the model got to it
    ├── PredictionFailed           the model raised, or answered nonsense
    └── LoadError                  the model cannot be served
        ├── FetchFailed            the artifact could not be brought here
        ├── DigestMismatch         the artifact is not the one that was released
        ├── UntrustedArtifact      it holds pickles and nothing vouches for it
        └── InvalidArtifact        it is not a model that we can read

Every message says value → rule → remedy.
"""

# ruff: noqa: N818  # the base says error; each name says what happened

from __future__ import annotations

import math


class InferenceError(Exception):
    """Root of the tree. `field` names what the message is about, where there is such a thing."""

    code = "error"

    def __init__(self, value: str, rule: str, remedy: str, *, field: str = "") -> None:
        super().__init__(f"{value} → {rule} → {remedy}")
        self.field = field


class InvalidRequest(InferenceError):
    """The caller's request is refused; sending it again changes nothing."""

    code = "invalid_request"


class MalformedBody(InvalidRequest):
    """The body is not JSON, or not of the form that the protocol asks for."""

    code = "malformed_body"


class MissingFeature(InvalidRequest):
    """A required feature is absent; `field` is its name."""

    code = "missing_feature"


class InvalidValue(InvalidRequest):
    """A value of the wrong type, shape or range; `field` is the feature, tensor or output."""

    code = "invalid_value"


class RequestTooLarge(InvalidRequest):
    """More bytes or rows than one request may have."""

    code = "request_too_large"


class ModelNotFound(InferenceError):
    """No model or version of that name is served here."""

    code = "model_not_found"


class Unavailable(InferenceError):
    """The service cannot answer now. `retry_after` is when to ask again, in whole seconds from 1."""

    code = "unavailable"
    usual_retry_after = 1

    def __init__(self, value: str, rule: str, remedy: str, *, field: str = "", retry_after: float = 0) -> None:
        super().__init__(value, rule, remedy, field=field)
        self.retry_after = max(self.usual_retry_after, math.ceil(retry_after))


class NotReady(Unavailable):
    """The model is still being fetched, loaded or warmed up."""

    code = "not_ready"
    usual_retry_after = 5


class Overloaded(Unavailable):
    """More is waiting than may, or than can be answered in time: refused at once rather than answered too late."""

    code = "overloaded"


class ShuttingDown(Unavailable):
    """The service drains; another replica answers."""

    code = "shutting_down"


class DeadlineExceeded(InferenceError):
    """The caller's time was over before there was an answer; nobody waits for one."""

    code = "deadline_exceeded"


class PredictionFailed(InferenceError):
    """The model raised, or its result does not fit the rows it was given."""

    code = "prediction_failed"


class LoadError(InferenceError):
    """The model cannot be served; the process ends with this line."""

    code = "load_error"


class FetchFailed(LoadError):
    """The artifact could not be brought here, after retries."""

    code = "fetch_failed"


class DigestMismatch(LoadError):
    """The artifact's digest is not the released one; nothing of it was deserialised."""

    code = "digest_mismatch"


class UntrustedArtifact(LoadError):
    """The artifact can run code when it is read, and no digest vouches for it."""

    code = "untrusted_artifact"


class InvalidArtifact(LoadError):
    """The directory is not a model that one of our runtimes can read."""

    code = "invalid_artifact"
