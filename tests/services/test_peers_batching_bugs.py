"""Bugs that the batchers of other servers have had: each is kept out by a test named for what went wrong there."""

import asyncio

import numpy as np
import orjson
import pytest

from services.inference.core.batcher import Batcher, BatchLimits
from services.inference.core.codec import Body, V2Codec
from services.inference.core.pipeline import Pipeline
from services.inference.core.schema import ModelInfo, ModelMetadata, Schema, TensorSpec
from tests.services.test_batcher import Doubling, Held, queued, rows

CODEC = V2Codec()


class Echo:
    """A model of one tensor with two outputs; it remembers what it was called with."""

    def __init__(self):
        schema = Schema(tensors=(TensorSpec(name="x", datatype="FP32", shape=(-1, 2)),))
        outputs = (
            TensorSpec(name="same", datatype="FP32", shape=(-1, 2)),
            TensorSpec(name="sum", datatype="FP32", shape=(-1,)),
        )
        self.metadata = ModelMetadata(
            platform="test", schema=schema, outputs=outputs, score="sum", example=schema.zeros()
        )
        self.calls = []

    def transform(self, given):
        return given

    def predict(self, given, parameters):
        self.calls.append((len(given), parameters))
        return {"same": given.blocks[0], "sum": given.blocks[0].sum(axis=1)}

    def close(self):
        pass


def request(*values, **more):
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(values), 2], "data": [[v, v] for v in values]}
    return Body(orjson.dumps({"inputs": [tensor], **more}))


async def answers_of(model, *bodies):
    """Send bodies to a pipeline in one turn of the event loop, so that they share a batch if they may."""
    info = ModelInfo(name="m", version="1", release="r", digest="", metadata=model.metadata)
    pipeline = Pipeline(model, info, BatchLimits())
    answered = [asyncio.get_running_loop().create_future() for _ in bodies]
    for body, future in zip(bodies, answered, strict=True):
        pipeline.start(body, CODEC, future.set_result)
    outcomes = await asyncio.gather(*answered)
    await pipeline.close(5)
    return [outcome if isinstance(outcome, Exception) else orjson.loads(outcome[0].content) for outcome in outcomes]


async def test_bentoml_3710_a_batch_counts_rows_and_not_requests():
    model = Held()
    batcher = Batcher(model, BatchLimits(max_rows=10, inline=False))
    first = await queued(batcher, (rows(0),))
    await model.has_begun()
    waiting = await queued(batcher, *[(rows(*range(3)),) for _ in range(8)])
    for _ in range(4):
        model.release.release()
    await asyncio.gather(*first, *waiting)
    assert [len(batch) for batch, _ in model.batches] == [1, 9, 9, 6]


async def test_bentoml_4856_a_maximum_of_one_row_works():
    model = Doubling()
    batcher = Batcher(model, BatchLimits(max_rows=1))
    answers = await asyncio.gather(*[batcher.infer(rows(value, value + 0.5)) for value in range(5)])
    assert [answer["y"].tolist() for answer in answers] == [[2 * v, 2 * v + 1] for v in range(5)]
    assert {len(batch) for batch, _ in model.batches} == {1}


@pytest.mark.parametrize("max_rows", [1, 100])
async def test_bentoml_4265_no_limit_of_batching_ends_a_model_that_takes_its_time(max_rows):
    model = Held()
    batcher = Batcher(model, BatchLimits(max_rows=max_rows))
    (slow,) = await queued(batcher, (rows(1),))
    await model.has_begun()
    done, _ = await asyncio.wait([slow], timeout=0.2)
    assert not done, "only its own deadline ends a request, and this one has none"
    model.release.release()
    assert (await slow)["y"].tolist() == [2]


@pytest.mark.parametrize("parameters", [{}, {"id": "123", "depth": 3, "flag": True, "rate": 0.5}])
async def test_mlserver_1541_parameters_reach_the_model_whole_also_of_a_request_alone_in_its_batch(parameters):
    model = Echo()
    (answer,) = await answers_of(model, request(1, 2, parameters=parameters))
    assert model.calls == [(2, tuple(sorted(parameters.items())))]
    assert [output["name"] for output in answer["outputs"]] == ["same", "sum"]


async def test_mlserver_514_each_caller_of_a_batch_gets_the_outputs_it_asked_for():
    model = Echo()
    chosen, other, everything = await answers_of(
        model,
        request(1, outputs=[{"name": "sum"}]),
        request(2, outputs=[{"name": "same"}]),
        request(3),
    )
    assert model.calls == [(3, ())], "they share one batch"
    assert [(o["name"], o["data"]) for o in chosen["outputs"]] == [("sum", [2])]
    assert [(o["name"], o["data"]) for o in other["outputs"]] == [("same", [2, 2])]
    assert [(o["name"], o["data"]) for o in everything["outputs"]] == [("same", [3, 3]), ("sum", [6])]


async def test_mlserver_1306_every_caller_of_a_batch_gets_its_own_rows_and_only_those():
    model = Echo()
    answers = await answers_of(model, request(1, id="a"), request(2, 3, id="b"), request(4, id="c"))
    assert model.calls == [(4, ())], "they share one batch"
    assert [(a["id"], a["outputs"][1]["shape"], a["outputs"][1]["data"]) for a in answers] == [
        ("a", [1], [2]),
        ("b", [2], [4, 6]),
        ("c", [1], [8]),
    ]


async def test_kserve_2275_requests_of_the_v2_protocol_are_batched_json_and_binary_together():
    model = Echo()
    values = np.array([[5, 5]], dtype=np.float32)
    described = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    head = orjson.dumps({"inputs": [described]})
    as_json, as_bytes = await answers_of(model, request(1), Body(head + values.tobytes(), len(head)))
    assert model.calls == [(2, ())]
    assert (as_json["outputs"][1]["data"], as_bytes["outputs"][1]["data"]) == ([2], [10])
