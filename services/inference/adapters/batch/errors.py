"""What ends a batch job, and its exit code; every message says value → rule → remedy.

    BatchError
    ├── InvalidInput           3   it is not there, empty, corrupt, or not what the model takes
    ├── NoSuchBucket           4   of the input or the output
    ├── TooManyRefused         5   more rows than the threshold cannot be scored
    ├── Overtaken              6   another job wrote the same output meanwhile
    ├── AccessDenied           7   the store refuses these credentials
    ├── StoreUnavailable       8   the store does not answer; a later try may succeed
    └── EngineFailed           9   the cluster that scores has failed; a later try may succeed

Code 1 is a model that cannot be loaded, 2 a wrong setting or command, 143 a job that was told to stop.
"""

# ruff: noqa: N818  # the base says error; each name says what happened

from __future__ import annotations

from services.inference.core.errors import InferenceError


class BatchError(InferenceError):
    """Root of the tree."""

    exit_code = 1


class InvalidInput(BatchError):
    """The input cannot be scored as a whole; nothing was written."""

    code = "invalid_input"
    exit_code = 3


class NoSuchBucket(BatchError):
    """The bucket of the input or of the output is not there."""

    code = "no_such_bucket"
    exit_code = 4


class TooManyRefused(BatchError):
    """More rows than may cannot be scored; nothing was committed."""

    code = "too_many_refused"
    exit_code = 5


class Overtaken(BatchError):
    """Another job committed to the same output, or the input changed, while this one ran."""

    code = "overtaken"
    exit_code = 6


class AccessDenied(BatchError):
    """The store refuses the credentials."""

    code = "access_denied"
    exit_code = 7


class StoreUnavailable(BatchError):
    """The store does not answer; the tasks of the flow try again."""

    code = "store_unavailable"
    exit_code = 8


class EngineFailed(BatchError):
    """The cluster that scores has failed; what it had finished is kept."""

    code = "engine_failed"
    exit_code = 9
