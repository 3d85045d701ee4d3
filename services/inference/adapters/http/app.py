"""The FastAPI application, made of a catalog; it reads no setting and starts nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from services.inference.adapters.http.errors import on_error
from services.inference.adapters.http.infer import Inference
from services.inference.adapters.http.middleware import Envelope
from services.inference.adapters.http.openapi import complete
from services.inference.adapters.http.predict import operations_router, predict_router
from services.inference.adapters.http.repository import repository_router
from services.inference.adapters.http.v1 import v1_router
from services.inference.adapters.http.v2 import v2_router
from services.inference.core.errors import InferenceError

if TYPE_CHECKING:
    from services.inference.adapters.http.exchange import Exchange
    from services.inference.adapters.telemetry.accounts import Accounts
    from services.inference.adapters.telemetry.metrics import Metrics


def create_app(
    exchange: Exchange, metrics: Metrics, accounts: Accounts, *, repository_token: str | None = None
) -> FastAPI:
    """Every protocol over one catalog."""
    catalog = exchange.catalog
    app = FastAPI(
        title=f"{catalog.name} ({catalog.release})",
        summary="Predictions over three HTTP protocols: /predict, KServe V1, Open Inference Protocol V2.",
        version="0.1.0",
        redoc_url=None,
    )
    inference = Inference(exchange)
    for router in (
        predict_router(inference),
        v1_router(inference),
        v2_router(inference),
        repository_router(catalog, repository_token),
        operations_router(catalog, metrics),
    ):
        app.include_router(router)
    generate = app.openapi
    app.openapi = lambda: app.openapi_schema or complete(generate())  # type: ignore[method-assign]
    app.add_exception_handler(InferenceError, on_error)
    app.add_exception_handler(HTTPException, on_error)
    app.add_middleware(Envelope, accounts=accounts)
    return app
