"""The shadow: what it sees, what it never holds up, and what it says of differences."""

import asyncio
import queue
import threading
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from services.contract import Env, Metric
from services.inference.adapters.http.counterpart import question
from services.inference.core.catalog import Catalog, Loaded, ModelSpec
from services.inference.core.codec import Body, V2Codec
from services.inference.core.errors import FetchFailed
from services.inference.core.schema import Feature, Kind, ModelInfo, ModelMetadata, Schema, TensorSpec
from services.inference.core.shadow import WAITING_ROWS, Beside, Shadow, Tolerance, compare
from services.inference.core.types import Request, Response, Rows
from tests.services.scaling import scaling_bundle
from tests.services.test_many_models import answer, models_file

SCHEMA = Schema(tensors=(TensorSpec(name="x", datatype="FP32", shape=(-1, 1)),))


class Candidate:
    """A pipeline whose answers the test decides; it may be held in the middle of one."""

    def __init__(self, outputs, schema=SCHEMA):
        metadata = ModelMetadata(platform="test", schema=schema, outputs=(), score="y", example=schema.zeros())
        self.info = SimpleNamespace(metadata=metadata, version="2", name="shadow", digest="")
        self.outputs = outputs
        self.mirrors = ()
        self.gate = None

    def run(self, rows, parameters):
        if self.gate is not None:
            assert self.gate.acquire(timeout=20), "the test never released the shadow"
        if isinstance(self.outputs, Exception):
            raise self.outputs
        return self.outputs

    async def close(self, _):
        pass


class Told:
    """Collects what the shadow tells, across threads."""

    def __init__(self):
        self.events = queue.Queue()

    def compared(self, model, shadow, comparison):
        self.events.put(comparison)

    def not_compared(self, model, shadow, rows, reason):
        self.events.put((reason, rows))

    async def next(self):
        return await asyncio.to_thread(self.events.get, timeout=20)


def shadowed(candidate, told):
    """A shadow in memory beside a live model of the same schema."""

    class OneModel:
        def load(self, spec):
            if isinstance(candidate, Exception):
                raise candidate
            return Loaded(candidate, 1)

    specs = [ModelSpec(name="live", uri="a", lazy=True), ModelSpec(name="shadow", uri="b", shadows="live")]
    catalog = Catalog(specs, OneModel(), release="r")
    return catalog, Shadow("live", Beside(catalog, "shadow"), told)


def request(rows=2):
    return Request(rows=Rows(np.zeros((rows, 1), dtype=np.float32)), id="a")


LIVE = Candidate({})
Y = {"y": np.array([1.0, 2.0])}
ANSWER = Response(id="a", outputs=Y, rows=2)


async def test_the_first_request_brings_the_shadow_and_the_next_ones_are_compared():
    told = Told()
    catalog, shadow = shadowed(Candidate({"y": np.array([1.0, 2.5])}), told)
    shadow.see(LIVE, request(), ANSWER)
    assert await told.next() == ("absent", 2)
    await catalog.load("shadow")
    shadow.see(LIVE, request(), ANSWER)
    comparison = await told.next()
    assert (comparison.matches, comparison.differences.tolist()) == (1, [0.0, 0.5])
    assert comparison.seconds >= 0


async def test_a_shadow_that_cannot_be_loaded_is_absent_and_nothing_else():
    told = Told()
    _, shadow = shadowed(FetchFailed("b", "it is not there", "mend it"), told)
    for _ in range(3):
        shadow.see(LIVE, request(), ANSWER)
        assert await told.next() == ("absent", 2)


async def test_a_slow_shadow_holds_nobody_up_and_what_is_too_much_is_dropped():
    told = Told()
    candidate = Candidate(Y)
    candidate.gate = threading.Semaphore(0)
    catalog, shadow = shadowed(candidate, told)
    await catalog.load("shadow")
    seen = WAITING_ROWS // 2 + 3
    for _ in range(seen):
        shadow.see(LIVE, request(), ANSWER)
    assert [await told.next() for _ in range(3)] == [("dropped", 2)] * 3
    for _ in range(seen - 3):
        candidate.gate.release()
    assert [(await told.next()).matches for _ in range(seen - 3)] == [2] * (seen - 3)
    shadow.see(LIVE, request(), ANSWER)
    candidate.gate.release()
    assert (await told.next()).matches == 2, "once it has caught up it sees the traffic again"


async def test_a_shadow_that_raises_is_counted_and_goes_on():
    told = Told()
    candidate = Candidate(RuntimeError("it burns"))
    catalog, shadow = shadowed(candidate, told)
    await catalog.load("shadow")
    shadow.see(LIVE, request(), ANSWER)
    assert await told.next() == ("failed", 2)
    candidate.outputs = Y
    shadow.see(LIVE, request(), ANSWER)
    assert (await told.next()).matches == 2


async def test_a_shadow_of_another_schema_is_not_fed_what_it_does_not_take():
    told = Told()
    other = Schema(tensors=(TensorSpec(name="z", datatype="FP32", shape=(-1, 1)),))
    catalog, shadow = shadowed(Candidate(Y, other), told)
    await catalog.load("shadow")
    shadow.see(LIVE, request(), ANSWER)
    assert await told.next() == ("incompatible", 2)


@pytest.mark.parametrize(
    ("live", "shadow", "matching", "differences"),
    [
        ([1.0, 2.0], [1.0005, 2.01], [True, False], [0.0005, 0.01]),
        ([[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 5.0]], [True, False], [0.0, 1.0]),
        ([float("nan"), 0.0], [float("nan"), float("nan")], [True, False], [0.0, 0.0]),
        (["a", "b"], ["a", "c"], [True, False], [0.0, 0.0]),
        ([1, 0], [1, 1], [True, False], [0.0, 1.0]),
        ([1.0, 2.0], [[1.0], [2.0]], [False, False], [0.0, 0.0]),
    ],
)
def test_rows_agree_within_the_tolerance(live, shadow, matching, differences):
    found = compare({"y": np.array(live)}, {"y": np.array(shadow)}, 2, Tolerance(relative=1e-3))
    assert found[0].tolist() == matching
    assert found[1] == pytest.approx(differences)


def test_an_output_that_the_shadow_lacks_makes_every_row_differ_and_one_more_does_not_matter():
    one, two = {"y": np.array([1.0])}, {"y": np.array([1.0]), "z": np.array([5.0])}
    assert compare(two, one, 1, Tolerance())[0].tolist() == [False]
    assert compare(one, two, 1, Tolerance())[0].tolist() == [True]


def test_a_service_answers_from_the_live_model_and_counts_what_its_shadow_says(serve, tmp_path):
    entries = [
        {"name": "scale", "uri": str(scaling_bundle(tmp_path / "2", 2))},
        {"name": "candidate", "uri": str(scaling_bundle(tmp_path / "3", 3)), "shadows": "scale"},
    ]
    running = serve({Env.MODELS_FILE: models_file(tmp_path, *entries), Env.MODEL_NAME: None}).ready()
    with running.client() as client:

        def mismatches():
            assert answer(client, "scale") == [2, 20], "the shadow never answers"
            wanted = f'{Metric.SHADOW_ROWS}{{model="scale",release="v7",result="mismatch",shadow="candidate"}}'
            lines = client.get("/metrics").text.splitlines()
            return next((float(line.split()[-1]) for line in lines if line.startswith(wanted)), 0) or None

        assert running.until(mismatches, "the shadow's answers are not compared") >= 1


def test_a_mirrored_release_compares_itself_with_the_live_one(serve, tmp_path):
    def release(name, factor, **settings):
        uri = scaling_bundle(tmp_path / name, factor)
        return serve({Env.MODEL_NAME: "m", Env.MODEL_URI: uri, Env.RELEASE: name, **settings}).ready()

    live = release("v1", 2.0)
    comparing = {Env.COMPARE_URL: live.url, Env.COMPARE_SHARE: 1}
    same, other = release("v2", 2.0, **comparing), release("v3", 3.0, **comparing)

    def rows(service, result):
        lines = httpx.get(f"{service.url}/metrics").text.splitlines()
        found = [line for line in lines if line.startswith(Metric.SHADOW_ROWS) and f'result="{result}"' in line]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    def ask(service):
        with service.client() as client:
            return answer(client, "m")

    for shadow in (same, other):
        assert ask(shadow)
    same.until(lambda: rows(same, "match") or None, "nothing was compared")
    other.until(lambda: rows(other, "mismatch") or None, "nothing was compared")
    assert (rows(same, "match"), rows(same, "mismatch")) == (1, 0)
    assert (rows(other, "match"), rows(other, "mismatch")) == (0, 1)
    live.stop()
    assert ask(same), "a shadow answers, whatever has become of the live release"
    same.until(lambda: rows(same, "failed") or None, "the failure was not counted")


@pytest.mark.parametrize(
    ("schema", "rows"),
    [
        (SCHEMA, Rows(np.array([[1.5], [-2.0]], dtype=np.float32))),
        (
            Schema(
                features=(
                    Feature(name="a", nullable=True),
                    Feature(name="t", kind=Kind.TEXT, nullable=True),
                    Feature(name="n", kind=Kind.INTEGER),
                )
            ),
            Rows(np.array([[np.nan, 3.0], [0.5, -4.0]]), np.array([["x"], [None]], dtype=object)),
        ),
    ],
)
def test_what_the_live_release_is_asked_is_what_the_shadow_was(schema, rows):
    body, json_bytes = question(schema, rows, (("beam", 4),))
    metadata = ModelMetadata(platform="test", schema=schema, outputs=(), score="y", example=schema.zeros())
    info = ModelInfo(name="m", version="1", release="r", digest="", metadata=metadata)
    asked = V2Codec().decode(Body(body, json_bytes), info)
    for sent, read in zip(rows.blocks, asked.rows.blocks, strict=True):
        assert sent.tolist() == read.tolist() or np.array_equal(sent, read, equal_nan=True)
    assert asked.parameters == (("beam", 4),)
