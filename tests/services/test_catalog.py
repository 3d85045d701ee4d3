"""The catalog with a loader that the test holds by the hand."""

import asyncio
import queue
import threading
import time
from types import SimpleNamespace

import pytest

from services.inference.core import catalog as module
from services.inference.core.catalog import Catalog, Loaded, ModelSpec, NotLoaded, State
from services.inference.core.errors import FetchFailed, InvalidArtifact, ModelNotFound, NotReady, ShuttingDown


class FakePipeline:
    def __init__(self, spec, version):
        self.info = SimpleNamespace(name=spec.name, version=version, digest=f"sha256:{version}")
        self.closed = False

    async def close(self, _):
        self.closed = True


class Shelf:
    """Loads at once, or when released; each model has a size, and may fail."""

    def __init__(self):
        self.loads = []
        self.sizes = {}
        self.failing = set()
        self.current = {}
        self.gate = None
        self.overlapping = 0
        self.reclaimed = 0
        self._inside = threading.Semaphore(1)
        self.begun = queue.Queue()

    def load(self, spec):
        if not self._inside.acquire(blocking=False):
            self.overlapping += 1
        try:
            self.loads.append(spec.uri)
            self.begun.put(spec.uri)
            if self.gate is not None:
                assert self.gate.acquire(timeout=20), "the test never released the load"
            if spec.uri in self.failing:
                raise FetchFailed(spec.uri, "it fails here", "mend it")
            version = self.current.get(spec.uri) or spec.version or "1"
            return Loaded(FakePipeline(spec, version), self.sizes.get(spec.name, 10))
        finally:
            self._inside.release()

    def current_version(self, spec):
        return self.current.get(spec.uri)

    def reclaim(self):
        self.reclaimed += 1

    async def has_begun(self):
        return await asyncio.to_thread(self.begun.get, timeout=20)


def specs(*names, **options):
    return [ModelSpec(name=name, uri=f"dir/{name}", **options) for name in names]


@pytest.fixture
def shelf():
    return Shelf()


async def started(models, shelf, **options):
    catalog = Catalog(models, shelf, release="r", **options)
    await catalog.start()
    return catalog


async def test_start_loads_what_is_not_lazy_and_then_the_process_is_ready(shelf):
    catalog = Catalog([*specs("a", "b"), *specs("c", lazy=True)], shelf, release="r")
    with pytest.raises(NotReady):
        catalog.ready()
    await catalog.start()
    catalog.ready()
    assert shelf.loads == ["dir/a", "dir/b"]
    assert catalog.get("a").info.name == "a"
    with pytest.raises(NotLoaded):
        catalog.get("c")


async def test_concurrent_first_requests_share_one_load(shelf):
    catalog = await started(specs("a", lazy=True), shelf)
    shelf.gate = threading.Semaphore(0)
    waiting = [asyncio.create_task(catalog.load("a")) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    shelf.gate.release()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert len({id(pipeline) for pipeline in found[1:]}) == 1, "the one who left did not take the load with it"
    assert shelf.loads == ["dir/a"]


async def test_models_are_loaded_one_at_a_time_so_that_each_ones_bytes_are_its_own(shelf):
    catalog = await started(specs(*"abcd", lazy=True), shelf)
    await asyncio.gather(*[catalog.load(name) for name in "abcd"])
    assert (len(shelf.loads), shelf.overlapping) == (4, 0)


async def test_a_failed_load_is_remembered_with_its_reason_and_tried_again_after_its_back_off(shelf, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    catalog = await started(specs("a", lazy=True), shelf)
    shelf.failing.add("dir/a")
    for pause in (1, 2, 4):
        with pytest.raises(FetchFailed):
            await catalog.load("a")
        with pytest.raises(NotReady, match="it fails here") as caught:
            await catalog.load("a")
        assert caught.value.retry_after >= pause
        clock[0] += pause + 0.01
    assert len(shelf.loads) == 3, "nothing was tried during a back-off"
    shelf.failing.clear()
    assert (await catalog.load("a")).info.name == "a"


async def test_a_failed_start_says_why_and_leaves_the_process_not_ready(shelf):
    shelf.failing.add("dir/b")
    catalog = Catalog(specs("a", "b"), shelf, release="r")
    with pytest.raises(FetchFailed, match="dir/b"):
        await catalog.start()
    assert catalog.state is State.LOADING


async def test_what_was_used_least_recently_is_evicted_for_room_but_never_what_is_pinned(shelf):
    models = [*specs("pinned", pinned=True, lazy=True), *specs("a", "b", "c", lazy=True)]
    catalog = await started(models, shelf, memory_bytes=30)
    kept = await catalog.load("pinned")
    first = await catalog.load("a")
    await catalog.load("b")
    catalog.get("a")  # used again: b is the oldest now
    await catalog.load("c")
    assert [slot.state for slot in catalog.slots()] == ["ready", "ready", "absent", "ready"]
    assert catalog.nbytes == 30
    assert (catalog.get("pinned"), catalog.get("a")) == (kept, first)
    assert (await catalog.load("b")).info.name == "b", "what was evicted comes back when it is asked for"
    assert catalog.nbytes == 30


async def test_an_evicted_model_drains(shelf):
    catalog = await started(specs("a", "b", lazy=True), shelf, memory_bytes=10)
    old = await catalog.load("a")
    await catalog.load("b")
    await catalog.close(1)
    assert old.closed
    assert shelf.reclaimed == 1


async def test_a_model_larger_than_all_the_memory_is_refused_and_evicts_nobody(shelf):
    catalog = await started(specs("a", "huge", lazy=True), shelf, memory_bytes=20)
    await catalog.load("a")
    shelf.sizes["huge"] = 21
    with pytest.raises(InvalidArtifact, match="takes 21 bytes"):
        await catalog.load("huge")
    assert catalog.get("a").info.name == "a"


async def test_versions_live_side_by_side_and_one_answers_where_none_is_named(shelf):
    versions = [ModelSpec(name="m", uri=f"dir/{v}", version=v, default=v == "2") for v in ("1", "2", "3")]
    catalog = await started(versions, shelf)
    assert [catalog.get("m", version).info.version for version in (None, "1", "2", "3")] == ["2", "1", "2", "3"]
    with pytest.raises(ModelNotFound, match="'9'"):
        catalog.get("m", "9")
    without = [ModelSpec(name="m", uri=f"dir/{v}", version=v) for v in ("1", "2")]
    assert (await started(without, shelf)).get("m").info.version == "2", "the last is the default"
    with pytest.raises(ValueError, match="two defaults"):
        Catalog([ModelSpec(name="m", uri=u, default=True) for u in "ab"], shelf, release="r")


async def test_an_alias_that_moves_swaps_the_model_and_the_old_one_drains(shelf):
    catalog = await started(specs("a"), shelf)
    old = catalog.get("a")
    await catalog.refresh()
    assert catalog.get("a") is old, "nothing has moved"
    shelf.current["dir/a"] = "2"
    await catalog.refresh()
    assert catalog.get("a").info.version == "2"
    await catalog.close(1)
    assert old.closed


async def test_an_alias_that_moves_to_a_broken_version_leaves_the_old_one_serving(shelf):
    catalog = await started(specs("a"), shelf)
    old = catalog.get("a")
    shelf.current["dir/a"] = "2"
    shelf.failing.add("dir/a")
    await catalog.refresh()
    assert catalog.get("a") is old
    assert not old.closed


async def test_the_new_version_is_loaded_whole_before_any_request_goes_to_it(shelf):
    catalog = await started(specs("a"), shelf)
    old = catalog.get("a")
    shelf.current["dir/a"] = "2"
    shelf.gate = threading.Semaphore(0)
    refreshing = asyncio.create_task(catalog.refresh())
    await shelf.has_begun()
    await shelf.has_begun()
    assert catalog.get("a") is old
    shelf.gate.release()
    await refreshing
    assert catalog.get("a") is not old


async def test_what_is_unloaded_by_hand_stays_out_until_it_is_loaded_by_hand(shelf):
    catalog = await started(specs("a"), shelf)
    old = catalog.get("a")
    catalog.unload_by_hand("a")
    with pytest.raises(NotReady, match="unloaded"):
        await catalog.load("a")
    await catalog.load_by_hand("a")
    assert catalog.get("a") is not old
    with pytest.raises(ModelNotFound):
        catalog.unload_by_hand("b")


async def test_unloading_while_it_loads_ends_the_waiters_and_keeps_it_out(shelf):
    catalog = await started(specs("a", lazy=True), shelf)
    shelf.gate = threading.Semaphore(0)
    waiting = asyncio.create_task(catalog.load("a"))
    await shelf.has_begun()
    catalog.unload_by_hand("a")
    with pytest.raises(NotReady, match="unloaded"):
        await waiting
    shelf.gate.release()
    assert catalog.slots("a")[0].state == "unloaded"


async def test_closing_while_a_model_loads_does_not_wait_for_it(shelf):
    catalog = await started(specs("a", lazy=True), shelf)
    shelf.gate = threading.Semaphore(0)
    waiting = asyncio.create_task(catalog.load("a"))
    await shelf.has_begun()
    started_at = time.monotonic()
    await catalog.close(1)
    assert time.monotonic() - started_at < 10
    with pytest.raises(ShuttingDown):
        await waiting
    shelf.gate.release()


async def test_code_of_a_model_may_raise_anything_while_it_is_loaded(shelf):
    def explode(_):
        raise RuntimeError("it burns\nsecond line")

    shelf.load = explode
    with pytest.raises(InvalidArtifact, match="RuntimeError: it burns →"):
        await started(specs("a"), shelf)
