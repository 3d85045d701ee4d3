"""A second model that sees a copy of the traffic and is compared, never answered from.

It is in this process (`Beside`), or this process is it and asks the live release for its answers (`Counterpart` of the
HTTP adapter). It works on one thread of its own, after the caller has its answer. What comes while too much waits is
dropped and counted: a shadow may be slow, it must not be in the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
import structlog

from services.inference.core.catalog import NotLoaded
from services.inference.core.errors import InferenceError

if TYPE_CHECKING:
    from services.inference.core.catalog import Catalog
    from services.inference.core.pipeline import Pipeline
    from services.inference.core.types import Array, Outputs, Request, Response

WAITING_ROWS = 1024
"""Rows that may wait for the shadow: some batches' worth of memory, and soon worked off."""

LOG_SECONDS = 10.0
"""Between two log lines about rows that differ: a sample, however many there are."""

_log = structlog.stdlib.get_logger("slipway.shadow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """When two numbers agree: |live - shadow| ≤ absolute + relative · |live|."""

    relative: float = 1e-3
    absolute: float = 1e-6


@dataclass(frozen=True, slots=True)
class Comparison:
    """One request, answered by both."""

    matches: int
    """Rows in which every output agrees."""
    differences: Array
    """Largest absolute difference of each row, over the numeric outputs, float [rows]."""
    seconds: float
    """Of the one that was asked, transformation included; the network too where it is another release."""


class ShadowObserver(Protocol):
    """Told what comes of the copies, for metrics; on the shadow's thread or the event loop's."""

    def compared(self, model: str, shadow: str, comparison: Comparison) -> None:
        """Both have answered."""

    def not_compared(self, model: str, shadow: str, rows: int, reason: str) -> None:
        """`dropped`: too much was waiting; `failed`: the shadow raised; `incompatible`; `absent`: it is not loaded."""


Answer = Callable[[], "Outputs"]
"""Gets the other's outputs; called on the shadow's thread, raises where there are none."""


class Other(Protocol):
    """Who else is asked: a model of this process, or another release."""

    name: str
    """What comparisons call it."""
    authoritative: bool
    """Whether it is the live one, and this process's own answers are the shadow's."""

    def answer_for(self, live: Pipeline, request: Request) -> Answer | str | None:
        """How to get its answer; why there is none; None where it is not asked for this request.

        On the event loop, at once.
        """

    def close(self) -> None:
        """End what it holds."""


class Beside:
    """A model of this process, loaded with the first request that it could have seen."""

    authoritative = False

    def __init__(self, catalog: Catalog, name: str) -> None:
        self.name = name
        self._catalog = catalog
        self._loading: asyncio.Task[None] | None = None

    def answer_for(self, live: Pipeline, request: Request) -> Answer | str | None:
        """Run the same rows; `absent` until it is loaded."""
        try:
            pipeline = self._catalog.get(self.name)
        except InferenceError as error:
            if isinstance(error, NotLoaded) and self._loading is None:
                self._loading = asyncio.create_task(self._load())
            return "absent"
        if pipeline.info.metadata.schema != live.info.metadata.schema:
            return "incompatible"
        return partial(pipeline.run, request.rows, request.parameters)

    def close(self) -> None:
        """Do nothing: the catalog closes its models."""

    async def _load(self) -> None:
        with contextlib.suppress(InferenceError):  # the catalog remembers and logs why, and when to try again
            await self._catalog.load(self.name)
        self._loading = None


class Shadow:
    """Copies of one model's requests for another. `see` belongs to the event loop and never waits."""

    def __init__(self, model: str, other: Other, observer: ShadowObserver, tolerance: Tolerance | None = None) -> None:
        self.model = model
        self._other = other
        self._observer = observer
        self._tolerance = tolerance or Tolerance()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shadow")
        self._waiting = 0
        self._logged = 0.0

    def see(self, live: Pipeline, request: Request, response: Response) -> None:
        """Take a request that the model has answered."""
        rows = len(request.rows)
        if self._waiting + rows > WAITING_ROWS:
            self._observer.not_compared(self.model, self._other.name, rows, "dropped")
            return
        answer = self._other.answer_for(live, request)
        if answer is None:
            return
        if isinstance(answer, str):
            self._observer.not_compared(self.model, self._other.name, rows, answer)
            return
        self._waiting += rows
        self._executor.submit(self._compare, answer, rows, response)

    def close(self) -> None:
        """Drop what waits."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._other.close()

    def _compare(self, answer: Answer, rows: int, response: Response) -> None:
        try:
            started = time.perf_counter()
            found = answer()
            seconds = time.perf_counter() - started
            live, shadow = (found, response.outputs) if self._other.authoritative else (response.outputs, found)
            matching, differences = compare(live, shadow, rows, self._tolerance)
            comparison = Comparison(int(matching.sum()), differences, seconds)
            self._observer.compared(self.model, self._other.name, comparison)
            self._sample(response.id, live, shadow, matching)
        except Exception as error:  # noqa: BLE001  # a shadow's faults are counted, and are nobody else's
            self._observer.not_compared(self.model, self._other.name, rows, "failed")
            if self._due():
                _log.warning("shadow failed", model=self.model, shadow=self._other.name, exc_info=error)
        finally:
            self._waiting -= rows

    def _sample(self, request_id: str, live: Outputs, shadow: Outputs, matching: Array) -> None:
        if matching.all() or not self._due():
            return
        row = int(np.argmin(matching))
        _log.info(
            "shadow differs",
            model=self.model,
            shadow=self._other.name,
            request_id=request_id,
            row=row,
            live={name: np.asarray(values[row]).tolist() for name, values in live.items()},
            answered={name: np.asarray(values[row]).tolist() for name, values in shadow.items()},
        )

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self._logged < LOG_SECONDS:
            return False
        self._logged = now
        return True


def compare(live: Outputs, shadow: Outputs, rows: int, tolerance: Tolerance) -> tuple[Array, Array]:
    """Which rows agree, bool [rows], and how far they are apart, float [rows].

    Compared are the outputs that both have; an output that only the live model has makes every row differ.
    """
    matching = np.ones(rows, dtype=bool)
    differences = np.zeros(rows)
    for name, expected in live.items():
        found = shadow.get(name)
        if found is None or found.shape != expected.shape:
            matching[:] = False
            continue
        if expected.dtype.kind not in "fiub" or found.dtype.kind not in "fiub":
            matching &= (expected == found).reshape(rows, -1).all(axis=1)
            continue
        a, b = (values.reshape(rows, -1).astype(np.float64) for values in (expected, found))
        close = np.isclose(b, a, rtol=tolerance.relative, atol=tolerance.absolute, equal_nan=True)
        matching &= close.all(axis=1)
        if a.shape[1]:
            np.maximum(differences, np.nan_to_num(np.abs(a - b)).max(axis=1), out=differences)
    return matching, differences
