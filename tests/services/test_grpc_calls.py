"""Calls over gRPC to a model that the test holds by the hand: it answers when told to."""

import asyncio
import queue
import socket
import threading
from contextlib import asynccontextmanager
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.inference.adapters.grpc import grpc_predict_v2_pb2 as proto
from services.inference.adapters.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from services.inference.adapters.grpc.server import GrpcServer
from services.inference.adapters.grpc.service import InferenceService
from services.inference.adapters.telemetry.accounts import Accounts
from services.inference.adapters.telemetry.metrics import Metrics
from services.inference.core.batcher import BatchLimits
from services.inference.core.catalog import Catalog, Loaded, ModelSpec
from services.inference.core.errors import FetchFailed
from services.inference.core.pipeline import Pipeline
from services.inference.core.schema import Feature, ModelInfo, ModelMetadata, Schema, TensorSpec

SECONDS = 30
"""Bound for what should come at once, on a machine that is busy."""

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class HeldRuntime:
    """Doubles each row when it is released; says when a call has begun, and keeps what it was given."""

    def __init__(self):
        self.begun = queue.Queue()
        self.release = threading.Semaphore(0)
        self.batches = []
        schema = Schema((Feature(name="amount"),))
        outputs = (TensorSpec(name="y", datatype="FP64"),)
        self.metadata = ModelMetadata(platform="t", schema=schema, outputs=outputs, score="y", example=schema.zeros())

    def transform(self, rows):
        return rows

    def predict(self, rows, _):
        self.begun.put(len(rows))
        assert self.release.acquire(timeout=SECONDS), "the test never released the model"
        self.batches.append(rows.numbers[:, 0].tolist())
        if 13 in rows.numbers:
            raise ValueError("secret path /etc/passwd")
        return {"y": rows.numbers[:, 0] * 2}

    def close(self):
        pass

    async def has_begun(self):
        return await asyncio.to_thread(self.begun.get, timeout=SECONDS)


class Shelf:
    """Loads the one model, or fails."""

    def __init__(self, pipeline):
        self.pipeline = pipeline
        self.failing = False

    def load(self, spec):
        if self.failing:
            raise FetchFailed(spec.uri, "it fails here", "mend it")
        return Loaded(self.pipeline, 1)

    def current_version(self, _):
        return None

    def reclaim(self):
        pass


@asynccontextmanager
async def serving(*, started=True, token=None):
    """A server in this process, and a stub that asks it."""
    runtime = HeldRuntime()
    info = ModelInfo(name="m", version="1", release="r", digest="sha256:0", metadata=runtime.metadata)
    pipeline = Pipeline(runtime, info, BatchLimits(max_rows=4, max_queued_rows=8))
    shelf = Shelf(pipeline)
    catalog = Catalog([ModelSpec(name="m", uri="dir/m")], shelf, release="r")
    metrics = Metrics("m", "r")
    accounts = Accounts(metrics, "r", [], log_all=False)
    service = InferenceService(catalog, accounts, repository_token=token)
    server = GrpcServer(service, catalog, 1 << 20)
    port = server.listen("127.0.0.1", 0)
    await server.start()
    if started:
        await catalog.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield SimpleNamespace(
            runtime=runtime, pipeline=pipeline, shelf=shelf, catalog=catalog, metrics=metrics, server=server,
            service=service, port=port, channel=channel, stub=GRPCInferenceServiceStub(channel),
        )  # fmt: skip
    for _ in range(20):
        runtime.release.release()
    await server.stop(0)
    await catalog.close(SECONDS)


def asked(*values, **more):
    tensor = proto.ModelInferRequest.InferInputTensor(name="amount", datatype="FP64", shape=[len(values)])
    raw = [np.array(values, dtype="<f8").tobytes()]
    return proto.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=raw, **more)


def answered(answer):
    return np.frombuffer(answer.raw_output_contents[0], "<f8").tolist()


def microseconds(count):
    return {"timeout": proto.InferParameter(int64_param=count)}


async def until(condition, what):
    """Give the loop turns until the condition holds; `what` says why it must."""
    give_up = asyncio.get_running_loop().time() + SECONDS
    while not condition():
        assert asyncio.get_running_loop().time() < give_up, what
        await asyncio.sleep(0.005)


def closed(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def counted(served, code):
    text = served.metrics.render().decode()
    wanted = f'code="{code}",model="m",protocol="grpc"'
    return sum(float(x.split()[-1]) for x in text.splitlines() if wanted in x and "requests_total" in x)


async def held(served, *values):
    """A call that the model works on, until it is released."""
    call = asyncio.ensure_future(served.stub.ModelInfer(asked(*values)))
    await served.runtime.has_begun()
    return call


async def waiting(served, *values, **options):
    """A call that waits behind the model."""
    call = served.stub.ModelInfer(asked(*values), **options)
    task = asyncio.ensure_future(call)
    await until(lambda: served.pipeline.batcher.waiting_rows == len(values), "the call does not arrive")
    return call, task


async def test_what_waits_for_the_model_leaves_together_whatever_call_it_came_by():
    async with serving() as served:
        first = await held(served, 1)
        others = [asyncio.ensure_future(served.stub.ModelInfer(asked(value))) for value in (2, 3)]
        await until(lambda: served.pipeline.batcher.waiting_rows == 2, "the calls do not arrive")
        for _ in range(2):
            served.runtime.release.release()
        assert [answered(await call) for call in (first, *others)] == [[2], [4], [6]]
        assert [sorted(batch) for batch in served.runtime.batches] == [[1], [2, 3]]


async def test_a_call_that_its_caller_cancels_leaves_the_queue():
    async with serving() as served:
        first = await held(served, 1)
        call, task = await waiting(served, 2, 3)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: served.pipeline.batcher.waiting_rows == 0, "nobody waits for its rows")
        await until(lambda: counted(served, 499) == 1, "the accounts say that its caller went")
        served.runtime.release.release()
        assert answered(await first) == [2]
        assert served.runtime.batches == [[1]], "the model never saw the cancelled rows"


async def test_a_call_past_its_deadline_leaves_the_queue():
    async with serving() as served:
        first = await held(served, 1)
        _, task = await waiting(served, 2, timeout=0.3)
        assert (await refusal(task)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: served.pipeline.batcher.waiting_rows == 0, "nobody waits for its rows")
        await until(lambda: counted(served, 504) == 1, "the accounts say that it was late")
        served.runtime.release.release()
        await first
        assert served.runtime.batches == [[1]]


async def test_the_timeout_parameter_bounds_a_call_that_has_more_time():
    async with serving() as served:
        first = await held(served, 1)
        error = await refusal(served.stub.ModelInfer(asked(2, parameters=microseconds(50_000)), timeout=SECONDS))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "→" in error.details(), "it is the service that says so, not the caller's own clock"
        served.runtime.release.release()
        await first


async def test_more_than_may_wait_is_refused_at_once_with_a_time_to_come_back():
    async with serving() as served:
        first = await held(served, 1)
        _, task = await waiting(served, *range(8))
        error = await refusal(served.stub.ModelInfer(asked(9)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert int(dict(error.trailing_metadata())["retry-after"]) >= 1
        for _ in range(3):
            served.runtime.release.release()
        await asyncio.gather(first, task)
        error = await refusal(served.stub.ModelInfer(asked(*range(9))))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, "asking again would change nothing"


async def test_what_fails_inside_is_told_without_its_cause():
    async with serving() as served:
        served.runtime.release.release()
        model_failed = await refusal(served.stub.ModelInfer(asked(13)))
        served.service._ask = lambda *_: 1 / 0  # noqa: SLF001  # any fault of our own
        served.runtime.release.release()
        we_failed = await refusal(served.stub.ModelInfer(asked(1)))
        for error in (model_failed, we_failed):
            assert error.code() is grpc.StatusCode.INTERNAL
            assert "secret" not in error.details()
            assert "division" not in error.details()
            assert "x-request-id" in dict(error.trailing_metadata()), "by which the log is searched"
        assert "ValueError" in model_failed.details()
        assert counted(served, 500) == 2


async def test_a_process_is_live_but_not_ready_until_its_model_is_loaded():
    async with serving(started=False) as served:
        stub = served.stub
        assert (await stub.ServerLive(proto.ServerLiveRequest())).live
        assert not (await stub.ServerReady(proto.ServerReadyRequest())).ready
        assert not (await stub.ModelReady(proto.ModelReadyRequest(name="m"))).ready
        for call in (stub.ModelInfer(asked(1)), stub.ModelMetadata(proto.ModelMetadataRequest(name="m"))):
            error = await refusal(call)
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert dict(error.trailing_metadata())["retry-after"] == "5"
        await served.catalog.start()
        assert (await stub.ServerReady(proto.ServerReadyRequest())).ready
        assert (await stub.ModelReady(proto.ModelReadyRequest(name="m", version="1"))).ready
        error = await refusal(stub.ModelReady(proto.ModelReadyRequest(name="m", version="2")))
        assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_health_follows_the_process_from_loading_to_draining():
    async with serving(started=False) as served:
        health = health_pb2_grpc.HealthStub(served.channel)
        watched = health.Watch(health_pb2.HealthCheckRequest(service="inference.GRPCInferenceService"))
        assert (await watched.read()).status == NOT_SERVING
        await served.catalog.start()
        assert (await watched.read()).status == SERVING
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == SERVING
        served.catalog.drain()
        assert (await watched.read()).status == NOT_SERVING
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING
        assert await watched.read() is grpc.aio.EOF, "or the drain would wait for it"


async def test_calls_that_arrive_while_the_process_drains_are_answered_until_its_port_closes():
    async with serving() as served:
        served.catalog.drain()
        accepted = await held(served, 2)
        stopping = asyncio.ensure_future(served.server.stop(SECONDS))
        await until(lambda: closed(served.port), "the port stays open")
        error = await refusal(served.stub.ModelInfer(asked(3), timeout=SECONDS))
        assert error.code() is grpc.StatusCode.UNAVAILABLE, "another replica answers"
        assert not stopping.done()
        served.runtime.release.release()
        assert answered(await accepted) == [4], "what was accepted is answered, as over HTTP"
        await stopping


async def test_a_model_is_unloaded_and_loaded_by_whoever_has_the_token():
    async with serving(token="a secret") as served:
        stub, token = served.stub, (("authorization", "Bearer a secret"),)
        unload = proto.RepositoryModelUnloadRequest(model_name="m")
        for metadata in ((), (("authorization", "Bearer a guess"),)):
            error = await refusal(stub.RepositoryModelUnload(unload, metadata=metadata))
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert (await stub.ModelReady(proto.ModelReadyRequest(name="m"))).ready
        answer = await stub.RepositoryModelUnload(unload, metadata=token)
        assert (answer.model_name, answer.isUnloaded) == ("m", True)
        assert (await refusal(stub.ModelInfer(asked(1)))).code() is grpc.StatusCode.UNAVAILABLE
        answer = await stub.RepositoryModelLoad(proto.RepositoryModelLoadRequest(model_name="m"), metadata=token)
        assert (answer.model_name, answer.isLoaded) == ("m", True)
        assert (await stub.ModelReady(proto.ModelReadyRequest(name="m"))).ready
        other = proto.RepositoryModelLoadRequest(model_name="other")
        assert (await refusal(stub.RepositoryModelLoad(other, metadata=token))).code() is grpc.StatusCode.NOT_FOUND


async def test_nobody_loads_and_unloads_where_the_process_has_no_token():
    async with serving() as served:
        for call, message in (
            (served.stub.RepositoryModelLoad, proto.RepositoryModelLoadRequest(model_name="m")),
            (served.stub.RepositoryModelUnload, proto.RepositoryModelUnloadRequest(model_name="m")),
        ):
            error = await refusal(call(message, metadata=(("authorization", "Bearer None"),)))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            assert "SLIPWAY_REPOSITORY_TOKEN" in error.details()
        assert (await served.stub.ModelReady(proto.ModelReadyRequest(name="m"))).ready
