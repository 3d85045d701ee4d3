"""The floor: an ASGI application that reads a request's body and answers bytes of the size that ours would have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.protocols import JSON_BYTES, reply_bytes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_JSON_ROW_BYTES, _BINARY_ROW_BYTES = 230, 128
"""About what 32 values take in a request: what tells how many rows it has."""


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Answer any request with 200."""
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    binary = any(name == JSON_BYTES.lower().encode() for name, _ in scope["headers"])
    rows = max(1, size // (_BINARY_ROW_BYTES if binary else _JSON_ROW_BYTES))
    body = b"0" * reply_bytes(rows, "binary" if binary else "json")
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
