"""The adaptive batcher: sends at once when idle, coalesces while busy.

There is no batching delay. A request that meets an idle model leaves in the same turn of the event loop, together with
whatever else that turn brought; while the model works, what arrives waits and leaves together when it is done. Under
light load latency is that of a single call, under heavy load batches grow by themselves up to their limits.

A batch that is expected to take less than `INLINE_SECONDS` runs on the event loop's own thread, because handing it to
another would cost more than it takes; a longer one runs on the batcher's one worker thread.

Invariants
- a batch never has more than `max_rows` rows or `max_bytes` bytes; a larger request is cut and put together again
- a batch never holds requests of different parameters; one batcher serves one model version
- every accepted request ends in its result or in an error, also when the model raises, answers nonsense, or the batcher
  closes
- one caller's rows never fail another's: a failed batch is run again request by request
- a request that is cancelled or past its deadline leaves the queue at once and frees its rows

All state belongs to the event loop; only `run` is called elsewhere.
"""

from __future__ import annotations

import asyncio
import bisect
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from services.inference.core.errors import (
    DeadlineExceeded,
    InferenceError,
    Overloaded,
    PredictionFailed,
    RequestTooLarge,
    ShuttingDown,
)
from services.inference.core.types import Outputs, Parameters, Rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Run = Callable[[Rows, Parameters], Outputs]
OnBatch = Callable[[Outputs, int, float, float], None]
Done = Callable[[Outputs | InferenceError], None]

INLINE_SECONDS = 0.001
"""A thread's turn costs some 50 µs, and as long as this the loop can well do without reading from its sockets."""

WEIGHT = 0.2
"""Of the newest measurement in the running mean of a batch's duration: a few batches to follow a change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """Limits in rows, because rows are what costs, and in bytes, because rows differ."""

    max_rows: int = 256
    """Rows of one batch: for small models the point where a CPU core gains nothing from more."""
    max_bytes: int = 64 * 1024 * 1024
    """Bytes of one batch's inputs; a single row may have more."""
    max_queued_rows: int = 4096
    """Rows waiting; beyond it requests are refused. 16 full batches: seconds of work, not minutes."""
    buckets: tuple[int, ...] = ()
    """Batch sizes that the model likes, ascending; a batch is cut at the largest that is filled."""
    pad: bool = False
    """Fill every batch up to the next bucket, so that the model only ever sees these sizes: then its kernels are the
    same whatever else is in the batch, and so are a row's bits."""

    def __post_init__(self) -> None:
        if self.buckets and (list(self.buckets) != sorted(set(self.buckets)) or not self.buckets[0] > 0):
            raise ValueError(f"buckets {self.buckets} → batch sizes ascend from 1 → write them in order")
        if self.buckets and self.buckets[-1] > self.max_rows:
            raise ValueError(f"bucket {self.buckets[-1]} → a batch has at most {self.max_rows} rows → leave it out")
        if self.pad and (not self.buckets or self.buckets[-1] != self.max_rows):
            raise ValueError(f"pad with buckets {self.buckets} → the largest is max_rows, {self.max_rows} → add it")

    def padded(self, rows: int) -> int:
        """Rows that the model sees for a batch of that many."""
        return self.buckets[bisect.bisect_left(self.buckets, rows)] if self.pad else rows

    def sizes(self) -> tuple[int, ...]:
        """What to warm up: every bucket, else the smallest and the largest batch."""
        return self.buckets or tuple(sorted({1, self.max_rows}))


class Work:
    """A request on its way through the batcher. `cancel` takes it out."""

    __slots__ = (
        "_cut",
        "_parts",
        "_remaining",
        "_timer",
        "created",
        "deadline",
        "done",
        "parameters",
        "pieces",
        "priority",
        "rows",
    )

    def __init__(
        self,
        rows: Rows,
        done: Done,
        *,
        parameters: Parameters = (),
        priority: int = 0,
        deadline: float = math.inf,
    ) -> None:
        self.rows = rows
        self.done: Done | None = done
        """Called once, with the outputs or an error; None afterwards, and after a cancellation."""
        self.parameters = parameters
        self.priority = priority
        self.deadline = deadline
        """In the event loop's time."""
        self.created = time.perf_counter()
        self.pieces: list[_Piece] = []
        self._parts: list[Outputs] = []
        self._remaining = 0
        self._timer: asyncio.TimerHandle | None = None

    def cut(self, step: int) -> list[_Piece]:
        """Pieces of at most `step` rows."""
        total = len(self.rows)
        if total <= step:
            self.pieces = [_Piece(self, self.rows, total, 0)]
        else:
            starts = range(0, total, step)
            self.pieces = [
                _Piece(self, self.rows[at : at + step], min(step, total - at), number)
                for number, at in enumerate(starts)
            ]
            self._parts = [{}] * len(self.pieces)
        self._remaining = len(self.pieces)
        return self.pieces

    def expire(self, timer: asyncio.TimerHandle) -> None:
        """Take the timer that ends this work, to stop it where the work ends before."""
        self._timer = timer

    def resolve(self, number: int, outputs: Outputs) -> None:
        """One piece is answered; the last one answers the caller."""
        if self.done is None:
            return
        if len(self.pieces) > 1:
            self._parts[number] = outputs
            self._remaining -= 1
            if self._remaining:
                return
            parts = self._parts
            outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self.end(outputs)

    def end(self, outcome: Outputs | InferenceError | None) -> None:
        """Answer the caller, unless that has been done; None answers nobody."""
        done, self.done = self.done, None
        self.pieces = []  # they know this work: what is left of a request needs no garbage collector
        if self._timer is not None:
            self._timer.cancel()
        if done is not None and outcome is not None:
            done(outcome)


class _Piece:
    """A part of one request that goes to the model at once: all of it, unless it is larger than a batch."""

    __slots__ = ("alone", "number", "rows", "size", "work")

    def __init__(self, work: Work, rows: Rows, size: int, number: int) -> None:
        self.work = work
        self.rows = rows
        self.size = size
        self.number = number
        self.alone = False
        """It was part of a batch that failed: it goes again by itself."""


class Pace:
    """How long batches take, by their size: a running mean per power of two."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def observe(self, rows: int, seconds: float) -> None:
        """Take one measurement in."""
        size = rows.bit_length()
        known = self._seconds.get(size)
        self._seconds[size] = seconds if known is None else known + WEIGHT * (seconds - known)

    def expected(self, rows: int) -> float | None:
        """Seconds for a batch of that many rows, from the nearest size measured; None before the first."""
        seconds = self._seconds.get(rows.bit_length())
        if seconds is not None or not self._seconds:
            return seconds
        near = min(self._seconds, key=lambda size: abs(size - rows.bit_length()))
        # Smaller batches are not expected to be faster, larger ones to take longer in proportion.
        return self._seconds[near] * max(1.0, rows / (1 << near))


class Batcher:
    """Batches of one model version. Use it inside a running event loop."""

    def __init__(self, run: Run, limits: BatchLimits, pace: Pace | None = None) -> None:
        self._run = run
        self._limits = limits
        self._pace = pace or Pace()
        self._queues: dict[int, dict[int, _Piece]] = {}
        """Priority → pieces by identity: in order, and a cancelled one leaves at no cost."""
        self._waiting_rows = 0
        self._running: list[_Piece] = []
        self._busy_until = 0.0
        """When the running batch is expected to end, by `time.perf_counter`."""
        self._scheduled = False
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._executor: ThreadPoolExecutor | None = None
        self.on_batch: OnBatch | None = None
        """Told of every batch that has run: outputs, rows, seconds, and seconds that its oldest request waited."""

    @property
    def waiting_rows(self) -> int:
        """Rows that are accepted and not yet with the model."""
        return self._waiting_rows

    @property
    def seconds_ahead(self) -> float:
        """How long what runs and waits will take, as far as that is known."""
        running = max(0.0, self._busy_until - time.perf_counter()) if self._running else 0.0
        return running + self._seconds_for(self._waiting_rows)

    def submit(self, work: Work) -> None:
        """Accept a request; its `done` is called with the outputs, or with an error, in the same row order.

        Errors: `ShuttingDown`, `RequestTooLarge`, `Overloaded`, `DeadlineExceeded` before it is accepted;
        `PredictionFailed`, `DeadlineExceeded` or an `InferenceError` of the runtime through `done`.
        """
        size = len(work.rows)
        self._admit(work, size)
        step = self._limits.max_rows
        if work.rows.nbytes > self._limits.max_bytes:
            step = max(1, min(step, self._limits.max_bytes * size // work.rows.nbytes))
        queue = self._queues.get(work.priority)
        if queue is None:
            queue = self._queues[work.priority] = {}
        for piece in work.cut(step):
            queue[id(piece)] = piece
        self._waiting_rows += size
        self._idle.clear()
        if work.deadline != math.inf:
            loop = asyncio.get_running_loop()
            work.expire(loop.call_at(work.deadline, self._expire, work))
        if not self._running and not self._scheduled:
            self._schedule()

    async def infer(self, rows: Rows, parameters: Parameters = (), **options: float) -> Outputs:
        """`submit` for a caller that waits; cancelling the wait cancels the work."""
        answered: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()

        def done(outcome: Outputs | InferenceError) -> None:
            if answered.done():
                return
            if isinstance(outcome, InferenceError):
                answered.set_exception(outcome)
            else:
                answered.set_result(outcome)

        work = Work(rows, done, parameters=parameters, **options)  # type: ignore[arg-type]
        self.submit(work)
        try:
            return await answered
        finally:
            self.cancel(work)

    def cancel(self, work: Work) -> None:
        """Nobody waits for it any more: what has not gone to the model leaves the queue."""
        if work.done is not None:
            self._leave(work)
            work.end(None)
            self._settle()

    async def close(self, grace_seconds: float) -> None:
        """Drain: (1) accept nothing more, (2) let accepted work finish, (3) fail what the grace leaves."""
        self._closed = True  # 1
        try:
            async with asyncio.timeout(grace_seconds):
                await self._idle.wait()  # 2
        except TimeoutError:
            waiting = [piece for queue in self._queues.values() for piece in queue.values()]
            self._fail([*self._running, *waiting], _shutting_down())  # 3
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _admit(self, work: Work, rows: int) -> None:
        if self._closed:
            raise _shutting_down()
        bound = self._limits.max_queued_rows
        if rows > bound:
            raise RequestTooLarge(
                f"{rows} rows", f"one request has at most {bound} rows", "send them in several requests"
            )
        if self._waiting_rows + rows > bound:
            raise Overloaded(
                f"{self._waiting_rows} rows are waiting", f"at most {bound} wait", "ask again",
                retry_after=self.seconds_ahead,
            )  # fmt: skip
        if work.deadline == math.inf:
            return
        ahead = self.seconds_ahead
        left = work.deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise _late()
        if ahead + self._seconds_for(rows) > left:  # it would only be refused later
            raise Overloaded(
                f"{ahead * 1e3:.0f} ms of work are waiting",
                f"the request has {left * 1e3:.0f} ms left",
                "ask again, or give it more time",
                retry_after=ahead,
            )

    def _seconds_for(self, rows: int) -> float:
        batches, rest = divmod(rows, self._limits.max_rows)
        full = batches * (self._pace.expected(self._limits.max_rows) or 0.0) if batches else 0.0
        return full + (self._pace.expected(rest) or 0.0 if rest else 0.0)

    def _schedule(self) -> None:
        """Pump at the end of this turn of the event loop, when all that it brought has been submitted."""
        self._scheduled = True
        asyncio.get_running_loop().call_soon(self._pump)

    def _expire(self, work: Work) -> None:
        self._leave(work)
        work.end(_late())
        self._settle()

    def _leave(self, work: Work) -> None:
        queue = self._queues.get(work.priority, {})
        for piece in work.pieces:
            if queue.pop(id(piece), None) is not None:
                self._waiting_rows -= piece.size

    def _settle(self) -> None:
        if not self._running and not self._waiting_rows:
            self._idle.set()

    def _next_batch(self) -> list[_Piece]:
        """The oldest piece of the first priority and those after it that may go with it.

        The oldest always goes, so within a priority nothing starves.
        """
        batch: list[_Piece] = []
        rows = size = 0
        limits = self._limits
        for _, queue in sorted(self._queues.items()) if len(self._queues) > 1 else self._queues.items():
            for piece in queue.values():
                if batch:
                    if piece.alone or piece.work.parameters != batch[0].work.parameters:
                        continue
                    if rows + piece.size > limits.max_rows or size + piece.rows.nbytes > limits.max_bytes:
                        break
                batch.append(piece)
                rows += piece.size
                size += piece.rows.nbytes
                if piece.alone:
                    break
            if batch and (batch[0].alone or rows >= limits.max_rows):
                break
        if limits.buckets and not limits.pad:
            batch = self._cut_at_bucket(batch, rows)
        for piece in batch:
            del self._queues[piece.work.priority][id(piece)]
            self._waiting_rows -= piece.size
        return batch

    def _cut_at_bucket(self, batch: list[_Piece], rows: int) -> list[_Piece]:
        """As many of the pieces as fill the largest bucket that they reach; all of them below the smallest."""
        below = [size for size in self._limits.buckets if size <= rows]
        if not below:
            return batch
        kept, total = 0, 0
        for piece in batch:
            if total + piece.size > below[-1]:
                break
            total += piece.size
            kept += 1
        return batch[: max(kept, 1)]

    def _pump(self) -> None:
        """Send the next batch if the model is idle."""
        self._scheduled = False
        if self._running or not self._waiting_rows:
            return
        batch = self._running = self._next_batch()
        loop = asyncio.get_running_loop()
        try:
            joined = Rows.concatenated([piece.rows for piece in batch])
            rows = len(joined)
            seen = self._limits.padded(rows)
            if seen != rows:
                joined = joined.padded(seen)
            parameters = batch[0].work.parameters
            expected = self._pace.expected(seen)
            if expected is not None and expected < INLINE_SECONDS:
                self._finish(batch, rows, self._timed(joined, parameters))
                return
            if self._executor is None:
                self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")
            self._busy_until = time.perf_counter() + (expected or 0.0)
            running = loop.run_in_executor(self._executor, self._timed, joined, parameters)
        except Exception as error:  # noqa: BLE001  # whatever it is, the callers must hear of it
            self._finish(batch, 0, error)
        else:
            running.add_done_callback(lambda done: self._finish(batch, rows, _outcome(done)))

    def _timed(self, rows: Rows, parameters: Parameters) -> tuple[Outputs, float] | BaseException:
        """Run a batch; also what only ends processes ends here, or its callers would wait for ever."""
        started = time.perf_counter()
        try:
            outputs = self._run(rows, parameters)
            return _checked(outputs, len(rows)), time.perf_counter() - started
        except BaseException as error:  # noqa: BLE001
            return error

    def _finish(self, batch: list[_Piece], rows: int, outcome: tuple[Outputs, float] | BaseException) -> None:
        """(1) hand out the outcome, (2) send what has gathered meanwhile."""
        self._running = []
        if not isinstance(outcome, BaseException):
            outputs, seconds = outcome
            self._pace.observe(self._limits.padded(rows), seconds)
            if self.on_batch is not None:
                waited = time.perf_counter() - seconds - batch[0].work.created
                self.on_batch(outputs, rows, seconds, waited)
            start = 0
            for piece in batch:
                stop = start + piece.size
                if piece.work.done is not None:
                    whole = start == 0 and len(batch) == 1 and self._limits.padded(rows) == rows
                    part = outputs if whole else {name: values[start:stop] for name, values in outputs.items()}
                    piece.work.resolve(piece.number, part)
                start = stop
        elif len(batch) > 1:
            self._again_alone(batch)
        else:
            self._fail(batch, _as_domain(outcome))
        if self._waiting_rows and not self._scheduled:
            self._schedule()
        self._settle()

    def _again_alone(self, batch: Sequence[_Piece]) -> None:
        for priority in {piece.work.priority for piece in batch}:
            waiting = self._queues[priority]
            again = {id(p): p for p in batch if p.work.priority == priority and p.work.done is not None}
            for piece in again.values():
                piece.alone = True
                self._waiting_rows += piece.size
            self._queues[priority] = again | waiting

    def _fail(self, pieces: Iterable[_Piece], error: InferenceError) -> None:
        for work in {id(piece.work): piece.work for piece in pieces}.values():
            self._leave(work)
            work.end(error)


def _outcome(done: asyncio.Future[tuple[Outputs, float] | BaseException]) -> tuple[Outputs, float] | BaseException:
    return _shutting_down() if done.cancelled() else done.exception() or done.result()


def _checked(outputs: Outputs, rows: int) -> Outputs:
    for name, values in outputs.items():
        if values.ndim == 0 or values.shape[0] != rows:
            raise PredictionFailed(
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


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the request's time is over", "its caller set the time", "ask again, or give it more time")


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("the service is stopping", "it takes no new work while it drains", "ask again")
