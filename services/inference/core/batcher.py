"""The adaptive batcher: sends at once when idle, coalesces while busy.

There is no timer. While the model is idle a request leaves at once; while it works,
what arrives waits and leaves together when it is done. Under light load latency is
that of a single call, under heavy load batches grow by themselves up to `max_rows`.

Invariants
- a batch never has more than `max_rows` rows; a larger request is cut and put together again
- a batch never holds requests of different parameters; one batcher serves one model version
- every accepted request ends in its result or in an error, also when the model raises, answers
  nonsense, or the batcher closes
- one caller's rows never fail another's: a failed batch is run again request by request
- a cancelled request leaves the queue at once and frees its rows

All state belongs to the event loop; only `run` is called elsewhere, on one thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from services.inference.core.errors import (
    InferenceError,
    Overloaded,
    PredictionFailed,
    RequestTooLarge,
    ShuttingDown,
)
from services.inference.core.types import Outputs, Parameters, Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

Run = Callable[[Rows, Parameters], Outputs]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """Limits in rows, because rows are what costs."""

    max_rows: int = 256
    """Rows of one batch: for small models the point where a CPU core gains nothing from more."""
    max_queued_rows: int = 4096
    """Rows waiting; beyond it requests are refused. 16 full batches: seconds of work, not minutes."""


@dataclass(eq=False, slots=True)
class _Entry:
    """A request, or a piece of one, on its way."""

    rows: Rows
    parameters: Parameters
    done: asyncio.Future[Outputs]
    alone: bool = False
    """It was part of a batch that failed: it goes again by itself."""


class Batcher:
    """Batches of one model version. Create it inside a running event loop."""

    def __init__(self, run: Run, limits: BatchLimits) -> None:
        self._run = run
        self._limits = limits
        self._waiting: dict[int, _Entry] = {}  # by identity: ordered, and a cancelled entry leaves in O(1)
        self._waiting_rows = 0
        self._running: list[_Entry] = []
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")

    @property
    def waiting_rows(self) -> int:
        """Rows that are accepted and not yet with the model."""
        return self._waiting_rows

    async def submit(self, rows: Rows, parameters: Parameters = ()) -> Outputs:
        """Predict rows; the outputs have the same rows in the same order.

        Errors: `ShuttingDown`, `RequestTooLarge`, `Overloaded` before it is accepted;
        `PredictionFailed` or an `InferenceError` of the runtime afterwards.
        """
        self._admit(len(rows))
        loop = asyncio.get_running_loop()
        step = self._limits.max_rows
        starts = range(0, max(len(rows), 1), step)
        entries = [_Entry(rows[at : at + step], parameters, loop.create_future()) for at in starts]
        for entry in entries:
            self._enqueue(entry)
        self._pump()
        try:
            parts = [await entry.done for entry in entries]
        finally:  # cancelled, or one piece failed: the others leave the queue
            for entry in entries:
                self._forget(entry)
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    async def close(self, grace_seconds: float) -> None:
        """Drain: (1) accept nothing more, (2) let accepted work finish, (3) fail what the grace leaves."""
        self._closed = True  # 1
        try:
            async with asyncio.timeout(grace_seconds):
                await self._idle.wait()  # 2
        except TimeoutError:
            self._fail([*self._running, *self._waiting.values()], _shutting_down())  # 3
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _admit(self, rows: int) -> None:
        if self._closed:
            raise _shutting_down()
        bound = self._limits.max_queued_rows
        if rows > bound:
            raise RequestTooLarge(
                f"{rows} rows", f"one request has at most {bound} rows", "send them in several requests"
            )
        if self._waiting_rows + rows > bound:
            raise Overloaded(f"{self._waiting_rows} rows are waiting", f"at most {bound} wait", "ask again in a second")

    def _enqueue(self, entry: _Entry) -> None:
        self._waiting[id(entry)] = entry
        self._waiting_rows += len(entry.rows)
        self._idle.clear()

    def _forget(self, entry: _Entry) -> None:
        if self._waiting.pop(id(entry), None) is not None:
            self._waiting_rows -= len(entry.rows)
            self._settle()
        if not entry.done.done():
            entry.done.cancel()
        elif not entry.done.cancelled():
            entry.done.exception()  # seen: a sibling's error is the one that the caller gets

    def _settle(self) -> None:
        if not self._running and not self._waiting:
            self._idle.set()

    def _next_batch(self) -> list[_Entry]:
        """The oldest entry and those after it that may go with it; the oldest always goes, so nothing starves."""
        batch: list[_Entry] = []
        rows = 0
        for entry in self._waiting.values():
            if batch and (entry.parameters != batch[0].parameters or entry.alone):
                continue
            if rows + len(entry.rows) > self._limits.max_rows and batch:
                break
            batch.append(entry)
            rows += len(entry.rows)
            if entry.alone:
                break
        for entry in batch:
            del self._waiting[id(entry)]
        self._waiting_rows -= rows
        return batch

    def _pump(self) -> None:
        """Send the next batch if the model is idle."""
        if self._running or not self._waiting:
            return
        batch = self._next_batch()
        self._running = batch
        try:
            joined = Rows.concatenated([entry.rows for entry in batch])
            running = asyncio.get_running_loop().run_in_executor(self._executor, self._run, joined, batch[0].parameters)
        except Exception as error:  # noqa: BLE001  # whatever it is, the callers must hear of it
            self._finish(batch, error)
        else:
            running.add_done_callback(lambda done: self._finish(batch, _outcome(done)))

    def _finish(self, batch: list[_Entry], outcome: Outputs | BaseException) -> None:
        """(1) hand out the outcome, (2) send what has gathered meanwhile."""
        self._running = []
        if not isinstance(outcome, BaseException):
            outcome = _checked(outcome, sum(len(entry.rows) for entry in batch))
        if not isinstance(outcome, BaseException):
            self._scatter(batch, outcome)
        elif len(batch) > 1:
            self._again_alone(batch)
        else:
            self._fail(batch, _as_domain(outcome))
        self._pump()
        self._settle()

    @staticmethod
    def _scatter(batch: Sequence[_Entry], outputs: Outputs) -> None:
        start = 0
        for entry in batch:
            stop = start + len(entry.rows)
            if not entry.done.done():
                entry.done.set_result({name: values[start:stop] for name, values in outputs.items()})
            start = stop

    def _again_alone(self, batch: Sequence[_Entry]) -> None:
        waiting, self._waiting = self._waiting, {}
        for entry in batch:
            if not entry.done.done():
                entry.alone = True
                self._enqueue(entry)
        self._waiting.update(waiting)

    def _fail(self, entries: Sequence[_Entry], error: InferenceError) -> None:
        for entry in entries:
            if self._waiting.pop(id(entry), None) is not None:
                self._waiting_rows -= len(entry.rows)
            if not entry.done.done():
                entry.done.set_exception(error)


def _outcome(done: asyncio.Future[Outputs]) -> Outputs | BaseException:
    if done.cancelled():
        return _shutting_down()
    return done.exception() or done.result()


def _checked(outputs: Outputs, rows: int) -> Outputs | PredictionFailed:
    for name, values in outputs.items():
        if values.ndim == 0 or values.shape[0] != rows:
            return PredictionFailed(
                f"output {name!r} has shape {list(values.shape)} for {rows} rows",
                "a model answers each row once",
                "correct the model's predict",
                field=name,
            )
    return outputs


def _as_domain(error: BaseException) -> InferenceError:
    if isinstance(error, InferenceError):
        return error
    failed = PredictionFailed(
        f"the model raised {type(error).__name__}",
        "a model answers every row that its schema accepts",
        "read the service's log for the cause",
    )
    failed.__cause__ = error
    return failed


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("the service is stopping", "it takes no new work while it drains", "ask again")
