"""Open Inference Protocol (V2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Request, Response

from services.inference.adapters.http.errors import V2
from services.inference.adapters.http.openapi import V2_ANSWER, V2_BODY
from services.inference.core.errors import Unavailable

if TYPE_CHECKING:
    from services.inference.adapters.http.infer import Inference
    from services.inference.core.schema import ModelInfo

_SERVER = {"name": "slipway", "version": "0.1.0", "extensions": ["binary_tensor_data"]}


def v2_router(inference: Inference) -> APIRouter:
    """Tensors in, tensors out. A model's path may name a version; without one it is the served one."""
    router = APIRouter(prefix="/v2", tags=["V2"])
    catalog = inference.catalog

    @router.get("")
    async def server() -> Response:
        """Describe the server."""
        return _json(_SERVER)

    @router.get("/health/live")
    async def live() -> Response:
        """Say that the process answers."""
        return _json({"live": True})

    @router.get("/health/ready")
    async def server_ready() -> Response:
        """Say whether the process takes requests: its model is loaded and warm, and it does not drain."""
        catalog.ready()
        return _json({"ready": True})

    @router.get("/models/{model}")
    @router.get("/models/{model}/versions/{version}")
    async def metadata(model: str, version: str | None = None) -> Response:
        """Describe a model's inputs and outputs."""
        pipeline = await catalog.load(model, version)
        versions = [slot.version for slot in catalog.slots(model) if slot.version is not None]
        return _json(_metadata(pipeline.info, versions))

    @router.get("/models/{model}/ready")
    @router.get("/models/{model}/versions/{version}/ready")
    async def ready(model: str, version: str | None = None) -> Response:
        """Say whether a model takes requests."""
        try:
            catalog.ready(model, version)
        except Unavailable:
            return _json({"name": model, "ready": False}, 503)
        return _json({"name": model, "ready": True})

    @router.post("/models/{model}/infer", openapi_extra=V2_BODY, responses=V2_ANSWER)
    @router.post("/models/{model}/versions/{version}/infer", openapi_extra=V2_BODY, responses=V2_ANSWER)
    async def infer(model: str, request: Request, version: str | None = None) -> Response:
        """Infer."""
        return await inference.answer(request, inference.exchange.endpoint(V2, model, version))

    return router


def _metadata(info: ModelInfo, versions: list[str]) -> dict[str, Any]:
    return {
        "name": info.name,
        "versions": versions,
        "platform": info.metadata.platform,
        "inputs": [{"name": i.name, "datatype": i.datatype, "shape": i.shape} for i in info.metadata.schema.inputs],
        "outputs": [{"name": o.name, "datatype": o.datatype, "shape": o.shape} for o in info.metadata.outputs],
    }


def _json(content: dict[str, Any], code: int = 200) -> Response:
    return Response(orjson.dumps(content), code, media_type="application/json")
