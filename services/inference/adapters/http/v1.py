"""KServe V1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from fastapi import APIRouter, Request, Response

from services.inference.adapters.http.errors import V1
from services.inference.adapters.http.openapi import MODEL_READY, V1_ANSWER, V1_BODY, V1_MODELS
from services.inference.core.errors import Unavailable

if TYPE_CHECKING:
    from services.inference.adapters.http.infer import Inference


def v1_router(inference: Inference) -> APIRouter:
    """Instances in, predictions out."""
    router = APIRouter(prefix="/v1/models", tags=["V1"], default_response_class=Response)
    catalog = inference.catalog

    @router.get("", responses=V1_MODELS)
    async def models() -> Response:
        """Name the models."""
        return _json({"models": catalog.names})

    # Before the path of a model, which it also is: the first that fits says which methods are allowed.
    @router.post("/{model}:predict", openapi_extra=V1_BODY, responses=V1_ANSWER)
    async def predict(model: str, request: Request) -> Response:
        """Predict a list of instances."""
        return await inference.answer(request, inference.exchange.endpoint(V1, model))

    @router.get("/{model}", responses=MODEL_READY[V1])
    async def ready(model: str) -> Response:
        """Say whether a model takes requests."""
        try:
            catalog.ready(model)
        except Unavailable:
            return _json({"name": model, "ready": False}, 503)
        return _json({"name": model, "ready": True})

    return router


def _json(content: dict[str, object], code: int = 200) -> Response:
    return Response(orjson.dumps(content), code, media_type="application/json")
