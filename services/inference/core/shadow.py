"""A second model that sees a copy of the traffic and is compared, never answered from.

It works on one thread of its own, after the caller has its answer. What comes while too much waits is dropped and
counted: a shadow may be slow, it must not be in the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
    """Of the shadow, transformation included."""


class ShadowObserver(Protocol):
    """Told what comes of the copies, for metrics; on the shadow's thread or the event loop's."""

    def compared(self, model: str, shadow: str, comparison: Comparison) -> None:
        """Both have answered."""

    def not_compared(self, model: str, shadow: str, rows: int, reason: str) -> None:
        """`dropped`: too much was waiting; `failed`: the shadow raised; `incompatible`; `absent`: it is not loaded."""


class Shadow:
    """Copies of one model's requests for another. `see` belongs to the event loop and never waits."""

    def __init__(
        self, catalog: Catalog, model: str, name: str, observer: ShadowObserver, tolerance: Tolerance | None = None
    ) -> None:
        self._catalog = catalog
        self.model = model
        self._name = name
        self._observer = observer
        self._tolerance = tolerance or Tolerance()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shadow")
        self._waiting = 0
        self._loading: asyncio.Task[None] | None = None
        self._logged = 0.0

    def see(self, live: Pipeline, request: Request, response: Response) -> None:
        """Take a request that the live model has answered."""
        rows = len(request.rows)
        try:
            pipeline = self._catalog.get(self._name)
        except InferenceError as error:
            if isinstance(error, NotLoaded) and self._loading is None:
                self._loading = asyncio.create_task(self._load())
            self._observer.not_compared(self.model, self._name, rows, "absent")
            return
        if pipeline.info.metadata.schema != live.info.metadata.schema:
            self._observer.not_compared(self.model, self._name, rows, "incompatible")
            return
        if self._waiting + rows > WAITING_ROWS:
            self._observer.not_compared(self.model, self._name, rows, "dropped")
            return
        self._waiting += rows
        self._executor.submit(self._compare, pipeline, request, response)

    def close(self) -> None:
        """Drop what waits."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _load(self) -> None:
        with contextlib.suppress(InferenceError):  # the catalog remembers and logs why, and when to try again
            await self._catalog.load(self._name)
        self._loading = None

    def _compare(self, pipeline: Pipeline, request: Request, response: Response) -> None:
        rows = len(request.rows)
        try:
            started = time.perf_counter()
            found = pipeline.run(request.rows, request.parameters)
            seconds = time.perf_counter() - started
            matching, differences = compare(response.outputs, found, rows, self._tolerance)
            self._observer.compared(self.model, self._name, Comparison(int(matching.sum()), differences, seconds))
            self._sample(response, found, matching)
        except Exception as error:  # noqa: BLE001  # a shadow's faults are counted, and are nobody else's
            self._observer.not_compared(self.model, self._name, rows, "failed")
            if self._due():
                _log.warning("shadow failed", model=self.model, shadow=self._name, exc_info=error)
        finally:
            self._waiting -= rows

    def _sample(self, response: Response, shadow: Outputs, matching: Array) -> None:
        if matching.all() or not self._due():
            return
        row = int(np.argmin(matching))
        _log.info(
            "shadow differs",
            model=self.model,
            shadow=self._name,
            request_id=response.id,
            row=row,
            live={name: np.asarray(values[row]).tolist() for name, values in response.outputs.items()},
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
