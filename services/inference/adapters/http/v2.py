"""Open Inference Protocol (V2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Request, Response

from services.inference.adapters.http.errors import V2
from services.inference.adapters.http.openapi import (
    MODEL_READY,
    V2_ANSWER,
    V2_BODY,
    V2_CONFIGURATION,
    V2_LIVE,
    V2_METADATA,
    V2_READY,
    V2_SERVER,
)
from services.inference.core.errors import Unavailable

if TYPE_CHECKING:
    from services.inference.adapters.http.infer import Inference
    from services.inference.core.catalog import Catalog
    from services.inference.core.schema import ModelInfo, TensorSpec

_SERVER = {"name": "slipway", "version": "0.1.0", "extensions": ["binary_tensor_data", "model_configuration"]}


def v2_router(inference: Inference) -> APIRouter:
    """Tensors in, tensors out. A model's path may name a version; without one it is the served one."""
    router = APIRouter(prefix="/v2", tags=["V2"], default_response_class=Response)
    _server_routes(router, inference.catalog)
    _model_routes(router, inference.catalog)
    _readiness_routes(router, inference.catalog)
    _inference_routes(router, inference)
    return router


def _server_routes(router: APIRouter, catalog: Catalog) -> None:
    @router.get("", responses=V2_SERVER)
    @router.get("/", include_in_schema=False)  # as the protocol's own OpenAPI writes it
    async def server() -> Response:
        """Describe the server."""
        return _json(_SERVER)

    @router.get("/health/live", responses=V2_LIVE)
    async def live() -> Response:
        """Say that the process answers."""
        return _json({"live": True})

    @router.get("/health/ready", responses=V2_READY)
    async def server_ready() -> Response:
        """Say whether the process takes requests: its model is loaded and warm, and it does not drain."""
        catalog.ready()
        return _json({"ready": True})


def _model_routes(router: APIRouter, catalog: Catalog) -> None:
    # A parameter for the version alone would also be one of the query, on the paths without it.
    @router.get("/models/{model}", responses=V2_METADATA)
    async def metadata(model: str) -> Response:
        """Describe a model's inputs and outputs."""
        return await describe(model)

    @router.get("/models/{model}/versions/{version}", responses=V2_METADATA)
    async def metadata_of_version(model: str, version: str) -> Response:
        """Describe a version's inputs and outputs."""
        return await describe(model, version)

    async def describe(model: str, version: str | None = None) -> Response:
        pipeline = await catalog.load(model, version)
        versions = [slot.version for slot in catalog.slots(model) if slot.version is not None]
        return _json(_metadata(pipeline.info, versions))

    @router.get("/models/{model}/config", responses=V2_CONFIGURATION)
    async def configuration(model: str) -> Response:
        """Describe a model as Triton's clients expect it: perf_analyzer reads this before it sends anything."""
        return await configure(model)

    @router.get("/models/{model}/versions/{version}/config", responses=V2_CONFIGURATION)
    async def configuration_of_version(model: str, version: str) -> Response:
        """Describe a version as Triton's clients expect it."""
        return await configure(model, version)

    async def configure(model: str, version: str | None = None) -> Response:
        pipeline = await catalog.load(model, version)
        return _json(_configuration(pipeline.info, pipeline.most_rows))


def _readiness_routes(router: APIRouter, catalog: Catalog) -> None:
    @router.get("/models/{model}/ready", responses=MODEL_READY[V2])
    async def ready(model: str) -> Response:
        """Say whether a model takes requests."""
        return probe(model)

    @router.get("/models/{model}/versions/{version}/ready", responses=MODEL_READY[V2])
    async def version_ready(model: str, version: str) -> Response:
        """Say whether a version takes requests."""
        return probe(model, version)

    def probe(model: str, version: str | None = None) -> Response:
        try:
            catalog.ready(model, version)
        except Unavailable:
            return _json({"name": model, "ready": False}, 503)
        return _json({"name": model, "ready": True})


def _inference_routes(router: APIRouter, inference: Inference) -> None:
    @router.post("/models/{model}/infer", openapi_extra=V2_BODY, responses=V2_ANSWER)
    async def infer(model: str, request: Request) -> Response:
        """Infer."""
        return await inference.answer(request, inference.exchange.endpoint(V2, model))

    @router.post("/models/{model}/versions/{version}/infer", openapi_extra=V2_BODY, responses=V2_ANSWER)
    async def infer_version(model: str, version: str, request: Request) -> Response:
        """Infer with one version."""
        return await inference.answer(request, inference.exchange.endpoint(V2, model, version))


def _metadata(info: ModelInfo, versions: list[str]) -> dict[str, Any]:
    return {
        "name": info.name,
        "versions": versions,
        "platform": info.metadata.platform,
        "inputs": [{"name": i.name, "datatype": i.datatype, "shape": i.shape} for i in info.metadata.schema.inputs],
        "outputs": [{"name": o.name, "datatype": o.datatype, "shape": o.shape} for o in info.metadata.outputs],
    }


def _configuration(info: ModelInfo, most_rows: int) -> dict[str, Any]:
    """Triton's ModelConfig: the first dimension, rows, is left out of each tensor's."""
    schema, outputs = info.metadata.schema, info.metadata.outputs
    return {
        "name": info.name,
        "platform": info.metadata.platform,
        "max_batch_size": most_rows,
        "input": [_tensor(each) for each in schema.inputs],
        "output": [_tensor(each) for each in outputs],
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": spec.shape[1:]}


def _json(content: dict[str, Any], code: int = 200) -> Response:
    return Response(orjson.dumps(content), code, media_type="application/json")
