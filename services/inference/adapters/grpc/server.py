"""The gRPC server of one process: its services, its port, its end."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import grpc
from grpc_reflection.v1alpha import reflection

from services.inference.adapters.grpc.health import HEALTH, Health
from services.inference.adapters.grpc.service import SERVICE

if TYPE_CHECKING:
    from services.inference.adapters.grpc.service import InferenceService
    from services.inference.core.catalog import Catalog


class GrpcServer:
    """Make it inside the running event loop. `listen`, `start`, `stop`, in this order; `stop` may come again."""

    def __init__(self, service: InferenceService, catalog: Catalog, max_message_bytes: int) -> None:
        self._server = grpc.aio.server(
            options=[
                # Also of a message that is compressed: it may not grow beyond it. What is larger is RESOURCE_EXHAUSTED.
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                # Otherwise a second process could take a port that is in use, and half of its calls.
                ("grpc.so_reuseport", 0),
            ]
        )
        for name, handlers in ((SERVICE, service.handlers()), (HEALTH, Health(catalog).handlers())):
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
            self._server.add_registered_method_handlers(name, handlers)
        reflection.enable_server_reflection((SERVICE, HEALTH, reflection.SERVICE_NAME), self._server)

    def listen(self, host: str, port: int) -> int:
        """Take the port, 0 for one of the system's choice; returns it. `OSError` where it cannot be had."""
        # gRPC would only say that it failed, and print why: a socket of our own finds out first.
        with socket.create_server((host, port)):
            pass
        try:
            return self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(errno.EADDRINUSE, "it was taken this moment") from error

    async def start(self) -> None:
        """Answer calls."""
        await self._server.start()

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, let those under way finish; what the grace leaves is cancelled."""
        await self._server.stop(grace_seconds)
