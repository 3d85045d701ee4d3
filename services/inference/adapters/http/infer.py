"""The one way from an HTTP request to the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from services.inference.core.errors import InvalidValue, RequestTooLarge

if TYPE_CHECKING:
    from starlette.requests import Request

    from services.inference.adapters.http.metrics import Metrics
    from services.inference.core.catalog import Catalog
    from services.inference.core.codec import Codec


class Inference:
    """Reads a body, infers, answers. Every protocol's infer endpoint is one call of it."""

    def __init__(self, catalog: Catalog, metrics: Metrics, max_body_bytes: int) -> None:
        self.catalog = catalog
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes

    async def answer(
        self, request: Request, codec: Codec[bytes, bytes], name: str | None = None, version: str | None = None
    ) -> Response:
        """Answer with the named model, or the process's own."""
        pipeline = self.catalog.get(name, version)
        body = await self._read(request)
        content, response = await pipeline.infer(body, codec, request.state.request_id)
        self._metrics.rows.inc(response.rows)
        return Response(content, media_type="application/json")

    async def _read(self, request: Request) -> bytes:
        """The body, refused as soon as it is known to be too large."""
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise InvalidValue(
                f"content-encoding {encoding[:40]!r}",
                "bodies are not compressed",
                "send it as it is",
                field="content-encoding",
            )
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self._max_body_bytes:
            raise self._too_large(int(declared))
        chunks: list[bytes] = []
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self._max_body_bytes:
                raise self._too_large(size)
            chunks.append(chunk)
        return b"".join(chunks)

    def _too_large(self, size: int) -> RequestTooLarge:
        return RequestTooLarge(
            f"the body has {size} bytes or more",
            f"it has at most {self._max_body_bytes}",
            "send the rows in several requests",
        )
