"""The methods of `inference.GRPCInferenceService`."""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING, Any

from services.contract import Env
from services.inference.adapters.grpc import grpc_predict_v2_pb2 as proto
from services.inference.adapters.grpc.calls import Call, Method, handler
from services.inference.adapters.grpc.codec import GrpcCodec, Inquiry
from services.inference.adapters.grpc.errors import Denied
from services.inference.core.errors import Unavailable
from services.inference.core.pipeline import LARGE_BODY_BYTES

if TYPE_CHECKING:
    import grpc

    from services.inference.adapters.telemetry.accounts import Accounts
    from services.inference.core.catalog import Catalog
    from services.inference.core.pipeline import Pipeline
    from services.inference.core.types import Response

    Answer = tuple[proto.ModelInferResponse, Response]

SERVICE = proto.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

QUIET = frozenset({"ServerLive", "ServerReady"})
"""What probes call every few seconds."""


class InferenceService:
    """Answers from a catalog; what a method raises, `calls` turns into a status."""

    def __init__(
        self,
        catalog: Catalog,
        accounts: Accounts,
        *,
        repository_token: str | None = None,
    ) -> None:
        self._catalog = catalog
        self._accounts = accounts
        self._repository_token = repository_token
        self._codec = GrpcCodec()

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """Handlers by the method's name."""
        methods: dict[str, Method[Any]] = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ServerMetadata": self.server_metadata,
            "ModelReady": self.model_ready,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.model_infer,
            "RepositoryModelLoad": self.load,
            "RepositoryModelUnload": self.unload,
        }
        # The proto names each method's message after it.
        messages = {name: getattr(proto, f"{name}Request").FromString for name in methods} | {"ModelInfer": _sized}
        return {
            name: handler(self._accounts, f"/{SERVICE}/{name}", messages[name], method, quiet=name in QUIET)
            for name, method in methods.items()
        }

    async def server_live(self, _: proto.ServerLiveRequest, __: Call) -> proto.ServerLiveResponse:
        """Say that the process answers."""
        return proto.ServerLiveResponse(live=True)

    async def server_ready(self, _: proto.ServerReadyRequest, __: Call) -> proto.ServerReadyResponse:
        """Say whether the process takes requests: its models are loaded and warm, and it does not drain."""
        return proto.ServerReadyResponse(ready=self._ready())

    async def server_metadata(self, _: proto.ServerMetadataRequest, __: Call) -> proto.ServerMetadataResponse:
        """Describe the server."""
        return proto.ServerMetadataResponse(name="slipway", version="0.1.0")

    async def model_ready(self, message: proto.ModelReadyRequest, _: Call) -> proto.ModelReadyResponse:
        """Say whether a model takes requests; one that is unknown is `ModelNotFound`."""
        return proto.ModelReadyResponse(ready=self._ready(message.name, message.version or None))

    async def model_metadata(self, message: proto.ModelMetadataRequest, _: Call) -> proto.ModelMetadataResponse:
        """Describe a model's inputs and outputs."""
        info = (await self._catalog.load(message.name, message.version or None)).info
        tensor = proto.ModelMetadataResponse.TensorMetadata
        return proto.ModelMetadataResponse(
            name=info.name,
            versions=[slot.version for slot in self._catalog.slots(info.name) if slot.version is not None],
            platform=info.metadata.platform,
            inputs=[tensor(name=i.name, datatype=i.datatype, shape=i.shape) for i in info.metadata.schema.inputs],
            outputs=[tensor(name=o.name, datatype=o.datatype, shape=o.shape) for o in info.metadata.outputs],
        )

    async def model_infer(self, sized: tuple[proto.ModelInferRequest, int], call: Call) -> proto.ModelInferResponse:
        """Infer."""
        message, size = sized
        pipeline = await self._catalog.load(message.model_name, message.model_version or None)
        # Not before: the first call of a model waits for its load.
        left = None if call.deadline is None else call.deadline - asyncio.get_running_loop().time()
        inquiry = Inquiry(message, left)
        if size > LARGE_BODY_BYTES:
            answer, response = await pipeline.infer(inquiry, self._codec, call.request_id)
        else:
            answer, response = await self._ask(pipeline, inquiry, call.request_id)
        call.ran = response.ran
        return answer

    async def load(self, message: proto.RepositoryModelLoadRequest, call: Call) -> proto.RepositoryModelLoadResponse:
        """Bring a model into memory; `Denied` as for `unload`."""
        self._check_token(call)
        await self._catalog.load_by_hand(message.model_name)
        return proto.RepositoryModelLoadResponse(model_name=message.model_name, isLoaded=True)

    async def unload(
        self, message: proto.RepositoryModelUnloadRequest, call: Call
    ) -> proto.RepositoryModelUnloadResponse:
        """Take a model out of memory; `Denied` where the caller lacks the process's token, or the process has none."""
        self._check_token(call)
        self._catalog.unload_by_hand(message.model_name)
        return proto.RepositoryModelUnloadResponse(model_name=message.model_name, isUnloaded=True)

    def _check_token(self, call: Call) -> None:
        token = self._repository_token
        if token is None:
            raise Denied(
                f"loading and unloading are off → {Env.REPOSITORY_TOKEN} enables them → set it, or release a model",
                known=False,
            )
        if not hmac.compare_digest(call.authorization.encode(), f"Bearer {token}".encode()):
            raise Denied(
                "the token is missing or wrong → the metadata 'authorization' is Bearer and the token → send it",
                known=True,
            )

    def _ready(self, name: str | None = None, version: str | None = None) -> bool:
        try:
            self._catalog.ready(name, version)
        except Unavailable:
            return False
        return True

    async def _ask(self, pipeline: Pipeline, inquiry: Inquiry, request_id: str) -> Answer:
        """`Pipeline.infer` without the thread, whose turn would cost a small message more than its reading."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def answer(outcome: Answer | Exception) -> None:
            if answered.done():
                return
            if isinstance(outcome, Exception):
                answered.set_exception(outcome)
            else:
                answered.set_result(outcome)

        work = pipeline.start(inquiry, self._codec, answer, request_id)
        try:
            return await answered
        finally:
            pipeline.cancel(work)


def _sized(body: bytes) -> tuple[proto.ModelInferRequest, int]:
    return proto.ModelInferRequest.FromString(body), len(body)
