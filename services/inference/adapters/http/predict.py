"""`POST /predict`, `GET /health`, `GET /metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from fastapi import APIRouter, Request, Response

from services.contract import Route
from services.inference.adapters.http.errors import MLFLOW, PREDICT
from services.inference.adapters.http.openapi import (
    HEALTH_ANSWER,
    METRICS_ANSWER,
    MLFLOW_ANSWER,
    MLFLOW_BODY,
    PREDICT_ANSWER,
    PREDICT_BODY,
)
from services.inference.adapters.telemetry.metrics import CONTENT_TYPE
from services.inference.core.catalog import State

if TYPE_CHECKING:
    from services.inference.adapters.http.infer import Inference
    from services.inference.adapters.telemetry.metrics import Metrics
    from services.inference.core.catalog import Catalog

_OK, _UNAVAILABLE = 200, 503


def predict_router(inference: Inference) -> APIRouter:
    """Features by name in, a prediction out."""
    router = APIRouter(tags=["predict"], default_response_class=Response)
    endpoint = inference.exchange.endpoint(PREDICT)

    @router.post(Route.PREDICT, openapi_extra=PREDICT_BODY, responses=PREDICT_ANSWER)
    async def predict(request: Request) -> Response:
        """Predict one row or several."""
        return await inference.answer(request, endpoint)

    @router.post(Route.INVOCATIONS, openapi_extra=MLFLOW_BODY, responses=MLFLOW_ANSWER, tags=["MLflow"])
    async def invocations(request: Request) -> Response:
        """Predict as MLflow's own server does: data frames, tensors, CSV."""
        return await inference.answer(request, inference.exchange.endpoint(MLFLOW))

    return router


def operations_router(catalog: Catalog, metrics: Metrics) -> APIRouter:
    """What people, probes and scrapers read."""
    router = APIRouter(tags=["operations"], default_response_class=Response)

    @router.get(Route.HEALTH, responses=HEALTH_ANSWER)
    async def health() -> Response:
        """Say what is served, and whether; 503 until the model is ready and again while draining."""
        body = {
            "status": catalog.state,
            "model": catalog.name,
            "version": None,
            "release": catalog.release,
            "digest": None,
        }
        if (info := catalog.info) is not None:
            body |= {"version": info.version, "digest": info.digest}
        code = _OK if catalog.state is State.READY else _UNAVAILABLE
        return Response(orjson.dumps(body), code, media_type="application/json")

    @router.get(Route.METRICS, responses=METRICS_ANSWER)
    async def scrape() -> Response:
        """Metrics of this process, in the Prometheus text format."""
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    return router
