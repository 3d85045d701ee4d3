"""The model repository extension of V2: what may be served, load, unload. Off unless a token enables it."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from services.inference.adapters.http.openapi import (
    INDEX_ANSWER,
    INDEX_BODY,
    LOAD_ANSWER,
    REPOSITORY_SECURITY,
    UNLOAD_ANSWER,
)
from services.inference.core.codec.base import read_object

if TYPE_CHECKING:
    from services.inference.core.catalog import Catalog, Slot

_UNAUTHORIZED, _FORBIDDEN = 401, 403

_STATES = {
    "ready": "READY",
    "loading": "LOADING",
    "failed": "UNAVAILABLE",
    "unloaded": "UNAVAILABLE",
    "absent": "UNAVAILABLE",
}


def repository_router(catalog: Catalog, token: str | None) -> APIRouter:
    """Every route asks for `Authorization: Bearer TOKEN`; without a token of the process all refuse."""
    router = APIRouter(prefix="/v2/repository", tags=["V2 repository"], default_response_class=Response)

    def check(request: Request) -> None:
        if token is None:
            raise HTTPException(_FORBIDDEN, "the repository extension is off; SLIPWAY_REPOSITORY_TOKEN enables it")
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise HTTPException(_UNAUTHORIZED, "the token is missing or wrong", {"www-authenticate": "Bearer"})

    @router.post("/index", openapi_extra=INDEX_BODY, responses=INDEX_ANSWER)
    async def index(request: Request) -> Response:
        """List every version that is or may be served; with `{"ready": true}` those in memory."""
        check(request)
        body = await request.body()
        only_ready = bool(read_object(body).get("ready")) if body else False
        listed = [_described(slot) for slot in catalog.slots() if not only_ready or slot.pipeline is not None]
        return Response(orjson.dumps(listed), media_type="application/json")

    @router.post("/models/{model}/load", openapi_extra=REPOSITORY_SECURITY, responses=LOAD_ANSWER)
    async def load(model: str, request: Request) -> Response:
        """Bring a model into memory; answers when it is ready, or with why it is not."""
        check(request)
        await catalog.load_by_hand(model)
        return Response(b"{}", media_type="application/json")

    @router.post("/models/{model}/unload", openapi_extra=REPOSITORY_SECURITY, responses=UNLOAD_ANSWER)
    async def unload(model: str, request: Request) -> Response:
        """Take a model out; what it has accepted it answers."""
        check(request)
        catalog.unload_by_hand(model)
        return Response(b"{}", media_type="application/json")

    return router


def _described(slot: Slot) -> dict[str, Any]:
    reason = str(slot.failure) if slot.failure is not None else "" if slot.pipeline is not None else slot.state
    return {"name": slot.spec.name, "version": slot.version or "", "state": _STATES[slot.state], "reason": reason}
