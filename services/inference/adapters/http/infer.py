"""Predictions through FastAPI's routes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.inference.adapters.http.errors import describe, to_starlette
from services.inference.adapters.http.exchange import too_large
from services.inference.core.errors import RequestTooLarge

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from services.inference.adapters.http.errors import Reply
    from services.inference.adapters.http.exchange import Endpoint, Exchange


class Inference:
    """Every prediction's route is one call of it."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.catalog = exchange.catalog

    async def answer(self, request: Request, endpoint: Endpoint) -> Response:
        """Hand a request to the exchange and wait for its answer."""
        # Every layer of a request speaks of it by one id.
        headers = {**dict(request.scope["headers"]), b"x-request-id": str(request.state.request_id).encode()}
        try:
            body = await self._read(request)
        except RequestTooLarge as error:
            refused = to_starlette(describe(error, endpoint.protocol, str(request.state.request_id)))
            if "expect" in request.headers:  # the body may never come: what comes may be it or another request
                refused.headers["connection"] = "close"
            return refused
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def respond(reply: Reply) -> None:
            if not answered.done():
                answered.set_result(reply)

        cancel = self.exchange.start(endpoint, headers, body, respond)
        try:
            reply = await answered
            request.state.ran = reply.ran
            return to_starlette(reply)
        finally:
            if cancel is not None:
                cancel()

    async def _read(self, request: Request) -> bytes:
        """The body, refused as soon as it is known to be too large."""
        bound = self.exchange.max_body_bytes
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > bound:
            raise too_large(int(declared), bound)
        chunks: list[bytes] = []
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > bound:
                raise too_large(size, bound)
            chunks.append(chunk)
        return b"".join(chunks)
