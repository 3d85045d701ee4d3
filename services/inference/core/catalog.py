"""The models that this process serves: which are in memory, which may be, and whether it takes requests.

    absent ──load──▶ loading ──▶ ready ──evicted, unloaded──▶ absent
                        └──▶ failed ──back-off──▶ loading

Invariants
- `get` gives a pipeline that is loaded whole and warm, or raises; nothing is ever half-loaded
- requests that meet a model on its way share one load
- a failed load is remembered, and tried again no sooner than its back-off says
- what is taken out of service answers what it has accepted first, so a swap loses no request
- the bytes in memory stay within the bound: what was used least recently goes first, what is pinned never

All state belongs to the event loop; a loader works on a thread of its own, one model at a time, so that what it
measures is that model's.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import structlog

from services.inference.core.errors import (
    InferenceError,
    InvalidArtifact,
    LoadError,
    ModelNotFound,
    NotReady,
    ShuttingDown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from services.inference.core.pipeline import Mirror, Pipeline
    from services.inference.core.schema import ModelInfo

T = TypeVar("T")

FIRST_BACKOFF_SECONDS, LAST_BACKOFF_SECONDS = 1.0, 60.0
"""Between two tries of a load that fails: doubled each time; a minute is what people wait for a mended artifact."""

_log = structlog.stdlib.get_logger("slipway.catalog")


class State(StrEnum):
    """Life of the process: loading → ready → draining, never back."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One version of a model that may be served."""

    name: str
    uri: str
    """`models:/name/version`, `models:/name@alias`, `s3://bucket/prefix` or a directory."""
    digest: str | None = None
    version: str | None = None
    """What callers and answers name it by; without one the registry's, or one made of the digest."""
    default: bool = False
    """Answers where a caller names no version; of several without one, the last does."""
    lazy: bool = False
    """Loaded by its first request, not before the process is ready."""
    pinned: bool = False
    """Never evicted."""
    shadows: str | None = None
    """Name of the model whose traffic it sees a copy of. The process is ready without it."""


class Loaded(NamedTuple):
    """What a loader gives."""

    pipeline: Pipeline
    nbytes: int
    """Memory that the model takes, measured."""


class Loader(Protocol):
    """All block, and are called on a thread; the errors of the first two are `LoadError`."""

    def load(self, spec: ModelSpec) -> Loaded:
        """Fetch, verify, load and warm up."""

    def current_version(self, spec: ModelSpec) -> str | None:
        """The version that the URI means now; None where it always means the same."""

    def reclaim(self) -> None:
        """A model is out of use: give its memory back."""


class Slot:
    """One version's place in the catalog."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.pipeline: Pipeline | None = None
        self.nbytes = 0
        self.used = 0.0
        self.unloaded = False
        """Taken out by hand: only by hand it comes back."""
        self.failure: InferenceError | None = None
        self.failures = 0
        self.retry_at = 0.0
        self.loading: asyncio.Task[Pipeline] | None = None

    @property
    def version(self) -> str | None:
        """The version, where it is known before or after the load."""
        return self.pipeline.info.version if self.pipeline is not None else self.spec.version

    @property
    def state(self) -> str:
        """A word for people."""
        if self.pipeline is not None:
            return "ready"
        if self.loading is not None:
            return "loading"
        return "unloaded" if self.unloaded else "failed" if self.failure is not None else "absent"


class Observer(Protocol):
    """Told what happens to models, for metrics."""

    def loaded(self, spec: ModelSpec, version: str, seconds: float, nbytes: int) -> None:
        """A model has been loaded, in that time."""

    def load_failed(self, spec: ModelSpec) -> None:
        """A load has failed."""

    def evicted(self, spec: ModelSpec, version: str) -> None:
        """A model has been taken out for room."""


class Catalog:
    """Models by name and version."""

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        loader: Loader,
        *,
        release: str,
        memory_bytes: int | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.release = release
        self.state = State.LOADING
        self.name = specs[0].name
        """The model of paths that name none."""
        self.drain_seconds = 25.0
        self.mirrors: dict[str, list[Mirror]] = {}
        """By model: what sees its traffic, set before anything is loaded."""
        self._loader = loader
        self._memory_bytes = memory_bytes
        self._observer = observer
        self._slots: dict[str, list[Slot]] = {}
        for spec in specs:
            self._slots.setdefault(spec.name, []).append(Slot(spec))
        for name, slots in self._slots.items():
            if sum(slot.spec.default for slot in slots) > 1:
                raise ValueError(f"model {name!r} has two defaults → one version is → mark one")
            # The default stands first: it is what nearly every request asks for.
            slots.reverse()
            slots.sort(key=lambda slot: not slot.spec.default)
        self._one_at_a_time = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()

    @property
    def names(self) -> list[str]:
        """Every model that is or may be served."""
        return list(self._slots)

    @property
    def info(self) -> ModelInfo | None:
        """What paths without a name are answered by, None while nothing is loaded for them."""
        pipeline = self._slots[self.name][0].pipeline
        return pipeline.info if pipeline else None

    @property
    def nbytes(self) -> int:
        """Memory that all loaded models take."""
        return sum(slot.nbytes for slot in self._all())

    def slots(self, name: str | None = None) -> list[Slot]:
        """Places of one model, the default first, or of all."""
        return list(self._all()) if name is None else self._find(name)

    async def start(self) -> None:
        """Load every model that is not lazy; then the process is ready. The first failure is raised."""
        for slot in self._all():
            if not slot.spec.lazy and slot.spec.shadows is None:
                await self._load(slot)
        if self.state is State.LOADING:
            self.state = State.READY

    def drain(self) -> None:
        """Not ready any more; requests that still arrive are answered while the process lives."""
        self.state = State.DRAINING

    def get(self, name: str | None = None, version: str | None = None) -> Pipeline:
        """The pipeline of a model in memory; None means the default. Raises `ModelNotFound`, `NotReady`, `LoadError`.

        `NotLoaded` is for a model that `load` would bring. Between this call and the next await the pipeline accepts
        work; work that it has accepted it finishes, whatever happens to the model.
        """
        slot = self._slot(name, version)
        pipeline = slot.pipeline
        if pipeline is None:
            raise self._absence(slot)
        slot.used = time.monotonic()
        return pipeline

    async def load(self, name: str | None = None, version: str | None = None) -> Pipeline:
        """`get`, loading the model where it is not in memory; whoever asks meanwhile waits for the same load."""
        slot = self._slot(name, version)
        if slot.pipeline is None:
            error = self._absence(slot)
            if not isinstance(error, NotLoaded):
                raise error
            await self._load(slot)
        return self.get(name, version)

    def ready(self, name: str | None = None, version: str | None = None) -> None:
        """Return where new requests are welcome, raise as `get` does where not; without a name for the process."""
        if name is not None:
            self.get(name, version)
        if self.state is not State.READY:
            raise self._not_ready()

    async def load_by_hand(self, name: str) -> None:
        """Bring every version of a model into memory, also one that failed or was unloaded just now."""
        for slot in self._find(name):
            slot.unloaded, slot.failure, slot.retry_at = False, None, 0.0
            if slot.pipeline is None:
                await self._load(slot)

    def unload_by_hand(self, name: str) -> None:
        """Take every version of a model out; it stays out until it is loaded by hand."""
        for slot in self._find(name):
            slot.unloaded = True
            if slot.loading is not None:
                slot.loading.cancel()
            self._retire(slot)

    async def refresh(self) -> None:
        """Look where aliases point now and swap what has moved; a failure leaves the old version serving."""
        for slot in list(self._all()):
            if slot.pipeline is None:
                continue
            try:
                version = await on_thread(lambda slot=slot: self._loader.current_version(slot.spec))  # type: ignore[misc]
                if version is None or slot.pipeline is None or version == slot.pipeline.info.version:
                    continue
                await self._swap(slot)
            except LoadError as error:
                _log.warning("model not refreshed, the old version serves on", model=slot.spec.uri, error=str(error))

    async def close(self, grace_seconds: float) -> None:
        """Finish accepted work and let every model go."""
        self.drain()
        for slot in self._all():
            if slot.loading is not None:
                slot.loading.cancel()
        pipelines = [slot.pipeline for slot in self._all() if slot.pipeline is not None]
        for slot in self._all():
            slot.pipeline = None
        await asyncio.gather(*[pipeline.close(grace_seconds) for pipeline in pipelines], *self._background)

    async def _load(self, slot: Slot) -> Pipeline:
        """One load for all who ask; cancelling one of them does not cancel it."""
        if slot.loading is None:
            slot.loading = asyncio.create_task(self._bring(slot))
            slot.loading.add_done_callback(lambda _: self._settled(slot))
        try:
            return await asyncio.shield(slot.loading)
        except asyncio.CancelledError:
            if slot.unloaded or self.state is State.DRAINING:
                raise self._absence(slot) from None
            raise

    def _settled(self, slot: Slot) -> None:
        task, slot.loading = slot.loading, None
        if task is not None and not task.cancelled():
            task.exception()  # seen: who asked has it, and the slot remembers it

    async def _bring(self, slot: Slot) -> Pipeline:
        try:
            loaded, seconds = await self._load_alone(slot.spec)
        except LoadError as error:
            slot.failures += 1
            slot.failure = error
            pause = min(FIRST_BACKOFF_SECONDS * 2 ** (slot.failures - 1), LAST_BACKOFF_SECONDS)
            slot.retry_at = time.monotonic() + pause
            if self._observer:
                self._observer.load_failed(slot.spec)
            _log.warning("model not loaded", model=slot.spec.uri, error=str(error), retry_seconds=pause)
            raise
        slot.failure, slot.failures = None, 0
        self._take_in(slot, loaded, seconds)
        return loaded.pipeline

    async def _swap(self, slot: Slot) -> None:
        """(1) load the new version beside the old, (2) let new requests go to it, (3) drain the old one."""
        loaded, seconds = await self._load_alone(slot.spec)  # 1
        old = slot.pipeline
        self._take_in(slot, loaded, seconds)  # 2
        if old is not None:
            self._let_go(old)  # 3

    async def _load_alone(self, spec: ModelSpec) -> tuple[Loaded, float]:
        async with self._one_at_a_time:
            started = time.monotonic()
            loaded = await on_thread(lambda: self._loader.load(spec))
            bound = self._memory_bytes
            if bound is not None and loaded.nbytes > bound:
                await loaded.pipeline.close(0)
                raise InvalidArtifact(
                    f"model {spec.name!r} takes {loaded.nbytes} bytes",
                    f"all models together have {bound}",
                    "raise SLIPWAY_MODEL_MEMORY_BYTES, or serve a smaller model",
                )
            return loaded, time.monotonic() - started

    def _take_in(self, slot: Slot, loaded: Loaded, seconds: float) -> None:
        if slot.unloaded or self.state is State.DRAINING:
            self._let_go(loaded.pipeline)
            return
        loaded.pipeline.mirrors = self.mirrors.get(slot.spec.name, ())
        slot.pipeline, slot.nbytes, slot.used = loaded.pipeline, loaded.nbytes, time.monotonic()
        info = loaded.pipeline.info
        if self._observer:
            self._observer.loaded(slot.spec, info.version, seconds, loaded.nbytes)
        _log.info(
            "model loaded", model=info.name, version=info.version, digest=info.digest, seconds=round(seconds, 3),
            bytes=loaded.nbytes,
        )  # fmt: skip
        self._make_room(slot)

    def _make_room(self, newest: Slot) -> None:
        """Evict, least recently used first, until the models fit."""
        if self._memory_bytes is None:
            return
        candidates = [s for s in self._all() if s.pipeline is not None and not s.spec.pinned and s is not newest]
        for slot in sorted(candidates, key=lambda slot: slot.used):
            if self.nbytes <= self._memory_bytes:
                return
            version = slot.version or ""
            self._retire(slot)
            if self._observer:
                self._observer.evicted(slot.spec, version)
            _log.info("model evicted", model=slot.spec.name, version=version)
        if self.nbytes > self._memory_bytes:
            _log.warning("pinned models exceed the memory bound", bytes=self.nbytes, bound=self._memory_bytes)

    def _retire(self, slot: Slot) -> None:
        pipeline, slot.pipeline, slot.nbytes = slot.pipeline, None, 0
        if pipeline is not None:
            self._let_go(pipeline)

    def _let_go(self, pipeline: Pipeline) -> None:
        task = asyncio.create_task(self._drain(pipeline))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _drain(self, pipeline: Pipeline) -> None:
        await pipeline.close(self.drain_seconds)
        del pipeline
        await on_thread(self._loader.reclaim)

    def _all(self) -> Iterator[Slot]:
        for slots in self._slots.values():
            yield from slots

    def _find(self, name: str) -> list[Slot]:
        slots = self._slots.get(name)
        if slots is None:
            known = ", ".join(self.names[:8])
            raise ModelNotFound(
                f"model {name[:80]!r}", f"this process serves {known}", "ask for one of them", field=name[:80]
            )
        return slots

    def _slot(self, name: str | None, version: str | None) -> Slot:
        slots = self._find(self.name if name is None else name)
        if version is None:
            return slots[0]
        for slot in slots:
            if slot.version == version:
                return slot
        known = ", ".join(slot.version or "one that is not loaded" for slot in slots)
        raise ModelNotFound(
            f"version {version[:80]!r} of model {slots[0].spec.name!r}",
            f"this process serves {known}",
            "ask for one of them or leave it out",
            field=version[:80],
        )

    def _absence(self, slot: Slot) -> InferenceError:
        """Why a model is not in memory, and whether a request may bring it."""
        name = slot.spec.name
        if self.state is State.DRAINING:
            return self._not_ready()
        if slot.unloaded:
            return NotReady(
                f"model {name!r} is unloaded", "it was taken out by hand", "load it, or ask another replica"
            )
        if slot.failure is not None and time.monotonic() < slot.retry_at:
            left = slot.retry_at - time.monotonic()
            return NotReady(
                f"model {name!r} could not be loaded ({slot.failure})", f"it is tried again in {left:.0f} s",
                "see the service's log", retry_after=left,
            )  # fmt: skip
        if self.state is State.LOADING and not slot.spec.lazy and slot.spec.shadows is None:
            return self._not_ready()
        return NotLoaded(f"model {name!r} is being loaded", "it answers once it is warm", "ask again in a few seconds")

    def _not_ready(self) -> NotReady | ShuttingDown:
        if self.state is State.DRAINING:
            return ShuttingDown("the service is stopping", "it drains", "ask another replica")
        return NotReady(
            f"model {self.name!r} is being loaded", "it answers once it is warm", "ask again in a few seconds"
        )


class NotLoaded(NotReady):
    """The model is not in memory; `Catalog.load` brings it."""


async def on_thread(call: Callable[[], T]) -> T:
    """Call on a daemon thread: unlike an executor's, it does not keep a process alive that was told to stop.

    An exception that is no `InferenceError` becomes an `InvalidArtifact`: code of a model can raise anything.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(act: Callable[[], None]) -> None:
        if not done.done():
            act()

    def run() -> None:
        try:
            result = call()
        except Exception as error:  # noqa: BLE001  # handed to the one that waits
            outcome = error if isinstance(error, InferenceError) else _unexpected(error)
            act: Callable[[], None] = lambda: done.set_exception(outcome)  # noqa: E731
        else:
            act = lambda: done.set_result(result)  # noqa: E731
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
            loop.call_soon_threadsafe(settle, act)

    threading.Thread(target=run, name="load-model", daemon=True).start()
    return await done


def _unexpected(error: Exception) -> InvalidArtifact:
    _log.error("the model raised while it was loaded", exc_info=error)
    line = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
    found = InvalidArtifact(f"{type(error).__name__}: {line}", "a model can be loaded", "see the service's log")
    found.__cause__ = error
    return found
