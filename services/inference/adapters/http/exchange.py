"""The one way from an HTTP request for a prediction to the pipeline and back, whichever server brought it.

Two bring it: the routes of FastAPI, and `direct`, which takes the same requests off the connection itself. Both hand in
headers and body and get a `Reply`; what a request means is decided here and nowhere else.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from services.inference.adapters.http.errors import MLFLOW, PREDICT, V1, V2, Reply, describe
from services.inference.adapters.telemetry.accounts import request_id_of
from services.inference.core.catalog import NotLoaded
from services.inference.core.codec import Body, MlflowCodec, PredictCodec, V1Codec, V2Codec
from services.inference.core.errors import InvalidValue, MalformedBody, RequestTooLarge
from services.inference.core.pipeline import LARGE_BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from services.inference.core.catalog import Catalog
    from services.inference.core.codec import Codec
    from services.inference.core.types import Response

Headers = dict[bytes, bytes]
"""Names in lower case."""

JSON_BYTES_HEADER, JSON_BYTES_DIGITS = b"inference-header-content-length", 18
"""No body is longer, and Python reads no number of thousands of digits."""

TIMEOUT_HEADER, TIMEOUT_DIGITS = b"x-envoy-expected-rq-timeout-ms", 10
"""Envoy's, in milliseconds; what it gives up need not be computed."""

COMPRESS_BYTES = 1024
"""A smaller answer fits a packet or two as it is."""
COMPRESSION_LEVEL = 1
"""The fastest: numbers compress little more with the others."""
_GZIP, _DEFLATE = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS
_REFUSED = re.compile(rb"q=0(\.0*)?")
_WINDOWS = {b"gzip": _GZIP, b"deflate": _DEFLATE}

_JSON, _OCTETS = b"application/json", b"application/octet-stream"


class Endpoint(NamedTuple):
    """What a path asks for: a protocol, and the model where the path names one."""

    protocol: str
    codec: Codec[Body, Body]
    model: str | None = None
    version: str | None = None


class Exchange:
    """Answers requests for predictions from a catalog."""

    def __init__(self, catalog: Catalog, max_body_bytes: int) -> None:
        self.catalog = catalog
        self.max_body_bytes = max_body_bytes
        self._codecs: Mapping[str, Codec[Body, Body]] = {
            PREDICT: PredictCodec(),
            V1: V1Codec(),
            V2: V2Codec(),
            MLFLOW: MlflowCodec(),
        }
        self._tasks: set[asyncio.Task[None]] = set()

    def endpoint(self, protocol: str, model: str | None = None, version: str | None = None) -> Endpoint:
        """The endpoint of a protocol for one model, or for the process's own."""
        return Endpoint(protocol, self._codecs[protocol], model, version)

    def start(
        self, endpoint: Endpoint, headers: Headers, body: bytes | bytearray, respond: Callable[[Reply], None]
    ) -> Callable[[], None] | None:
        """Begin one request; `respond` is called once, now or later, unless it is cancelled.

        The result cancels it; None where all is over.
        """
        request_id = request_id_of(headers)
        try:
            pipeline = self.catalog.get(endpoint.model, endpoint.version)
            json_bytes = _json_bytes(headers)
            if b"content-encoding" in headers or len(body) > LARGE_BODY_BYTES:
                return self._later(self._infer(endpoint, headers, body, respond))
        except NotLoaded:
            return self._later(self._infer(endpoint, headers, body, respond))
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller must hear of it
            respond(describe(error, endpoint.protocol, request_id))
            return None

        def answer(outcome: tuple[Body, Response] | Exception) -> None:
            respond(self._reply(outcome, endpoint, headers, request_id))

        message = Body(body, json_bytes, headers.get(b"content-type", b""))
        work = pipeline.start(message, endpoint.codec, answer, request_id, _timeout(headers))
        return None if work is None or work.done is None else partial(pipeline.cancel, work)

    async def _infer(
        self, endpoint: Endpoint, headers: Headers, body: bytes | bytearray, respond: Callable[[Reply], None]
    ) -> None:
        """A request that is compressed or large, or the first of its model: bodies are read on a thread."""
        request_id = request_id_of(headers)
        outcome: tuple[Body, Response] | Exception
        try:
            json_bytes = _json_bytes(headers)
            pipeline = await self.catalog.load(endpoint.model, endpoint.version)
            if b"content-encoding" in headers:
                body = await asyncio.to_thread(_decompressed, headers, body, self.max_body_bytes)
            message = Body(body, json_bytes, headers.get(b"content-type", b""))
            outcome = await pipeline.infer(message, endpoint.codec, request_id, _timeout(headers))
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller must hear of it
            outcome = error
        respond(self._reply(outcome, endpoint, headers, request_id))

    def _later(self, work: object) -> Callable[[], None]:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task.cancel  # type: ignore[no-any-return]

    def _reply(
        self, outcome: tuple[Body, Response] | Exception, endpoint: Endpoint, headers: Headers, request_id: str
    ) -> Reply:
        if isinstance(outcome, Exception):
            return describe(outcome, endpoint.protocol, request_id)
        (content, json_bytes, _), response = outcome
        media_type, more = _JSON, []
        if json_bytes is not None:
            media_type = _OCTETS
            more.append((JSON_BYTES_HEADER, b"%d" % json_bytes))
        if len(content) >= COMPRESS_BYTES and (accepted := headers.get(b"accept-encoding")):
            encoding = _preferred(accepted)
            if encoding is not None:
                compressor = zlib.compressobj(COMPRESSION_LEVEL, wbits=_WINDOWS[encoding])
                content = compressor.compress(content) + compressor.flush()
                more += [(b"content-encoding", encoding), (b"vary", b"accept-encoding")]
        return Reply(200, media_type, bytes(content), request_id, more, response.ran)


def too_large(size: int, bound: int) -> RequestTooLarge:
    """The error for a body beyond the limit."""
    return RequestTooLarge(
        f"the body has {size} bytes or more", f"it has at most {bound}", "send the rows in several requests"
    )


def _preferred(accepted: bytes) -> bytes | None:
    """The first of our encodings that Accept-Encoding has; `q=0` is how a caller refuses one."""
    offered = set()
    for part in accepted.lower().replace(b" ", b"").split(b","):
        name, _, weight = part.partition(b";")
        if not _REFUSED.fullmatch(weight):
            offered.add(name)
    return next((name for name in _WINDOWS if name in offered), None)


def _timeout(headers: Headers) -> float | None:
    """Seconds after which the mesh gives the request up."""
    given = headers.get(TIMEOUT_HEADER)
    return int(given) / 1e3 if given is not None and given.isdigit() and len(given) < TIMEOUT_DIGITS else None


def _json_bytes(headers: Headers) -> int | None:
    given = headers.get(JSON_BYTES_HEADER)
    if given is None:
        return None
    if not given.isdigit() or len(given) > JSON_BYTES_DIGITS:
        raise MalformedBody(
            f"Inference-Header-Content-Length is {given[:40]!r}", "it is a number of bytes", "send the JSON's length"
        )
    return int(given)


def _decompressed(headers: Headers, body: bytes | bytearray, bound: int) -> bytes | bytearray:
    """The body as it was before its Content-Encoding; what it grows to is bounded."""
    encoding = headers[b"content-encoding"].strip().lower()
    if encoding in (b"identity", b""):
        return body
    if encoding not in _WINDOWS:
        raise InvalidValue(
            f"content-encoding {encoding[:40].decode(errors='replace')!r}",
            "bodies are plain, gzip or deflate",
            "send it as one of these",
            field="content-encoding",
        )
    try:
        # Some clients call raw deflate, without zlib's header, deflate.
        raw = encoding == b"deflate" and (len(body) < 2 or (body[0] << 8 | body[1]) % 31)  # noqa: PLR2004
        decompressor = zlib.decompressobj(-zlib.MAX_WBITS if raw else _WINDOWS[encoding])
        content = decompressor.decompress(body, bound + 1)
    except zlib.error as error:
        raise MalformedBody(
            f"the body is no {encoding.decode()} ({error})", "it is what it says", "compress it again"
        ) from error
    if len(content) > bound:
        raise too_large(len(content), bound)
    if not decompressor.eof:
        raise MalformedBody(f"the {encoding.decode()} body ends early", "it is sent whole", "send it again")
    return content
