"""What happens around every call: an id, the accounts, trailing metadata, and errors as status codes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from services.contract import VERSION_HEADER
from services.inference.adapters.grpc.errors import describe
from services.inference.adapters.telemetry.accounts import ID_HEADER, request_id_of
from services.inference.core.errors import MalformedBody

if TYPE_CHECKING:
    from services.inference.adapters.telemetry.accounts import Accounts
    from services.inference.core.types import Ran

GRPC, PROBES = "grpc", "other"
"""Protocols, as the label of the metrics has them; probes count as they do over HTTP, against no objective."""

SERVED, GONE, LATE = 200, 499, 504
"""HTTP's status for what has no error: answered, left by its caller, ended by its deadline."""

CLOCKS_SECONDS = 0.01
"""By which the clock that ends a call at its deadline and the one that is read here may differ."""

_ID = ID_HEADER.decode()
_READ = (ID_HEADER, b"traceparent", b"tracestate")
"""Metadata that the accounts take as headers."""

In = TypeVar("In")


@dataclass(slots=True)
class Call:
    """What is known of a call besides its message."""

    request_id: str
    deadline: float | None
    """Of its caller, in the event loop's time; None where it has none."""
    authorization: str = ""
    """As HTTP's header of that name."""
    ran: Ran | None = None
    """Set by a method whose answer came from a batch."""


Method = Callable[[In, Call], Awaitable[Message]]
"""Answers one message; whatever it raises becomes the call's status."""


def handler(
    accounts: Accounts, path: str, read: Callable[[bytes], In], method: Method[In], *, quiet: bool = False
) -> grpc.RpcMethodHandler[bytes, Message]:
    """The handler of one method at `path`. `quiet` is for what comes every few seconds."""

    async def answer(body: bytes, context: grpc.aio.ServicerContext[bytes, Message]) -> Message:
        metadata = {name: str(value) for name, value in context.invocation_metadata() or ()}
        headers = {name: metadata[name.decode()].encode() for name in _READ if name.decode() in metadata}
        request_id = request_id_of(headers)
        marks = ((_ID, request_id), (VERSION_HEADER, accounts.release))
        visit = accounts.begin(PROBES if quiet else GRPC, "POST", path.encode(), headers, quiet=quiet)
        call = Call(request_id, _deadline(context.time_remaining()), metadata.get("authorization", ""))
        status = GONE
        try:
            found = await method(_read(read, body), call)
            status = SERVED
        except asyncio.CancelledError:
            left = context.time_remaining()
            if left is not None and left < CLOCKS_SECONDS:
                status = LATE
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller must hear of it
            refusal = describe(error, request_id)
            status = refusal.status
            await context.abort(refusal.code, refusal.message, (*marks, *refusal.more))
        finally:
            accounts.end(visit, status, request_id, call.ran)
        context.set_trailing_metadata(marks)
        return found

    # Bytes come in, so that what is no message is refused and counted like any other fault of a caller.
    return grpc.unary_unary_rpc_method_handler(answer, None, _write)


def _deadline(seconds: float | None) -> float | None:
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


def _read(read: Callable[[bytes], In], body: bytes) -> In:
    try:
        return read(body)
    except DecodeError as error:
        raise MalformedBody(
            "the message cannot be read", "it is of the service's proto", "ask for it by reflection"
        ) from error


def _write(message: Any) -> bytes:
    written: bytes = message.SerializeToString()
    return written
