"""`grpc.health.v1.Health`: what Kubernetes, load balancers and gRPC's own clients ask."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2 as proto

from services.inference.adapters.grpc.service import SERVICE
from services.inference.core.catalog import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.inference.core.catalog import Catalog

HEALTH = "grpc.health.v1.Health"

POLL_SECONDS = 0.1
"""Between two looks of a watcher at the state; a deployment's probes are ten times as slow."""


class Health:
    """The catalog's state as a health status; it is asked, not told, so that it is never behind.

    SERVING where the process is ready, NOT_SERVING while it loads and drains, for the server ("") and its service.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """Handlers by the method's name."""
        read, write = proto.HealthCheckRequest.FromString, proto.HealthCheckResponse.SerializeToString
        return {
            "Check": grpc.unary_unary_rpc_method_handler(self.check, read, write),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch, read, write),
        }

    async def check(self, message: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        """Say the status now; a service that is not here is NOT_FOUND."""
        status = self._status(message.service)
        if status == proto.HealthCheckResponse.SERVICE_UNKNOWN:
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"service {message.service[:80]!r} → this server has {SERVICE} → ask for it, or for '' for the server",
            )
        return proto.HealthCheckResponse(status=status)

    async def watch(self, message: Any, _: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        """Say the status and each change of it; a watch ends with the drain, which would wait for it otherwise."""
        told = None
        while True:
            draining = self._catalog.state is State.DRAINING
            status = self._status(message.service)
            if status != told:
                told = status
                yield proto.HealthCheckResponse(status=status)
            if draining:
                return
            await asyncio.sleep(POLL_SECONDS)

    def _status(self, service: str) -> int:
        statuses = proto.HealthCheckResponse
        if service not in ("", SERVICE):
            return int(statuses.SERVICE_UNKNOWN)
        return int(statuses.SERVING if self._catalog.state is State.READY else statuses.NOT_SERVING)
