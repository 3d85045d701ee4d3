"""The adaptive batcher: sends at once when idle, coalesces while busy.

There is no batching delay. A request that meets an idle model leaves in the same turn of the event loop, together with
whatever else that turn brought; while the model works, what arrives waits and leaves together when it is done. Under
light load latency is that of a single call, under heavy load batches grow by themselves up to their limits.

A batch that is expected to be short (`pace.INLINE_SECONDS`) runs on the event loop's own thread,
because handing it to another would cost more than it takes; a longer one runs on a thread of the model's lanes.

Invariants
- a batch never has more than `max_rows` rows or `max_bytes` bytes; a larger request is cut and put together again
- a batch never holds requests of different parameters; one batcher serves one model version
- every accepted request ends in its result or in an error, also when the model raises, answers nonsense, or the batcher
  closes
- one caller's rows never fail another's: a failed batch is run again request by request
- a request that is cancelled or past its deadline leaves the queue at once and frees its rows
- a request that is expected to miss its deadline is refused at once, unless the model is idle; one that was accepted is
  not made late by those that came after it

All state belongs to the event loop; only `run` is called elsewhere.
"""

from __future__ import annotations

import asyncio
import bisect
import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
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
from services.inference.core.pace import Pace
from services.inference.core.types import Outputs, Parameters, Ran, Rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Run = Callable[[Rows, Parameters], Outputs]
OnBatch = Callable[[Outputs, int, float, float], None]
Done = Callable[[Outputs | InferenceError], None]
Outcome = tuple[Outputs, float, float]
"""What a batch gave, how many seconds it took and when it ended, by `time.perf_counter`."""

HANDLING_SECONDS = 0.0001
"""What a batch costs beside the model."""
NEGLIGIBLE = 0.05
"""Of a row's time: what a larger batch saves less than is not worth its longer wait."""

NICENESS = 10
"""Of the model's thread, and so of those that its framework starts: a tenth of the event loop's weight."""

SHARE_OF_DEADLINE = 0.5
"""Of the time that a request has, at its arrival: as far as its batch is expected by then it is accepted. The rest is
for what arrives after it, shares its batch and makes that longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """Limits in rows, because rows are what costs, and in bytes, because rows differ."""

    max_rows: int = 1024
    """Rows of one batch: where a CPU core gains little from more, also of what gains for long, as trees do. Models that
    gain nothing up to there take fewer, as their warm-up shows."""
    max_bytes: int = 64 * 1024 * 1024
    """Bytes of one batch's inputs; a single row may have more."""
    max_queued_rows: int = 4096
    """Rows waiting; beyond it requests are refused: seconds of work, not minutes."""
    buckets: tuple[int, ...] = ()
    """Batch sizes that the model likes, ascending; a batch is cut at the largest that is filled."""
    lanes: int = 1
    """Batches that may be with the model at once; two keep a GPU busy while the next batch is copied to it."""
    inline: bool = True
    """Whether a short batch may run on the event loop's thread: not where threads matter, as on a GPU."""
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
        """What to warm up: every bucket, else the powers of two up to the largest batch."""
        powers = (1 << power for power in range(self.max_rows.bit_length()))
        return self.buckets or tuple(sorted({*powers, self.max_rows}))

    def at_best(self, seconds: Mapping[int, float]) -> BatchLimits:
        """These limits, with batches no larger than pays: `seconds` says how long a batch of each of `sizes` takes.

        Beyond some size a batch only makes its callers wait longer, and where it leaves the processor's caches it takes
        more per row than two halves.
        """
        per_row = {rows: (taken + HANDLING_SECONDS) / rows for rows, taken in seconds.items()}
        enough = min(rows for rows, cost in per_row.items() if cost <= min(per_row.values()) * (1 + NEGLIGIBLE))
        return replace(self, max_rows=enough, buckets=tuple(size for size in self.buckets if size <= enough))


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
        "nbytes",
        "parameters",
        "pieces",
        "priority",
        "ran",
        "rows",
        "size",
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
        self.size = len(rows)
        self.nbytes = rows.nbytes
        self.done: Done | None = done
        """Called once, with the outputs or an error; None afterwards, and after a cancellation."""
        self.parameters = parameters
        self.priority = priority
        self.deadline = deadline
        """In the event loop's time."""
        self.created = time.perf_counter()
        self.ran: Ran | None = None
        self.pieces: Sequence[_Piece] = ()
        self._parts: list[Outputs] | None = None
        """Of the pieces, where there are several; `_remaining` of them are to come."""
        self._remaining = 0
        self._timer: asyncio.TimerHandle | None = None

    def cut(self, step: int) -> Sequence[_Piece]:
        """Pieces of at most `step` rows."""
        if self.size <= step:
            self.pieces = (_Piece(self, self.rows, self.size, self.nbytes),)
        else:
            parts = (self.rows[at : at + step] for at in range(0, self.size, step))
            self.pieces = [_Piece(self, part, len(part), part.nbytes, at) for at, part in enumerate(parts)]
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
        parts = self._parts
        if parts is not None:
            parts[number] = outputs
            self._remaining -= 1
            if self._remaining:
                return
            outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self.end(outputs)

    def end(self, outcome: Outputs | InferenceError | None) -> None:
        """Answer the caller, unless that has been done; None answers nobody."""
        done, self.done = self.done, None
        self.pieces = ()  # they know this work: what is left of a request needs no garbage collector
        if self._timer is not None:
            self._timer.cancel()
        if done is not None and outcome is not None:
            done(outcome)


class _Piece:
    """A part of one request that goes to the model at once: all of it, unless it is larger than a batch."""

    __slots__ = ("alone", "nbytes", "number", "rows", "size", "work")

    def __init__(self, work: Work, rows: Rows, size: int, nbytes: int, number: int = 0) -> None:
        self.work = work
        self.rows = rows
        self.size = size
        self.nbytes = nbytes
        self.number = number
        self.alone = False
        """It was part of a batch that failed: it goes again by itself."""


class _Batch:
    """Pieces that are with the model."""

    __slots__ = ("begun", "pieces", "rows", "until")

    def __init__(self, pieces: list[_Piece]) -> None:
        self.pieces = pieces
        self.rows = 0
        self.begun: float | None = None
        """When it was given to a thread; None where it runs inline."""
        self.until = 0.0
        """When it is expected back."""


class Batcher:
    """Batches of one model version. Use it inside a running event loop."""

    def __init__(
        self, run: Run, limits: BatchLimits, pace: Pace | None = None, executor: ThreadPoolExecutor | None = None
    ) -> None:
        """`executor` has the model's threads, one per lane; the batcher ends it."""
        self._run = run
        self._limits = limits
        self._pace = pace or Pace()
        self._queues: dict[int, dict[_Piece, None]] = {}
        """Priority → pieces as an ordered set, which a cancelled one leaves at no cost."""
        self._waiting_rows = 0
        self._running: list[_Batch] = []
        self._scheduled = False
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._executor = executor or model_threads(limits.lanes)
        self.on_batch: OnBatch | None = None
        """Told of every batch that has run: outputs, rows, seconds, and seconds that its oldest request waited."""

    @property
    def waiting_rows(self) -> int:
        """Rows that are accepted and not yet with the model."""
        return self._waiting_rows

    @property
    def seconds_ahead(self) -> float:
        """How long what runs and waits will take, as far as that is known."""
        running = 0.0
        if len(self._running) == self._limits.lanes:
            running = max(0.0, min(batch.until for batch in self._running) - time.perf_counter())
        return running + self._seconds_for(self._waiting_rows) / self._limits.lanes

    def submit(self, work: Work) -> None:
        """Accept a request; its `done` is called with the outputs, or with an error, in the same row order.

        Errors: `ShuttingDown`, `RequestTooLarge`, `Overloaded`, `DeadlineExceeded` before it is accepted;
        `PredictionFailed`, `DeadlineExceeded` or an `InferenceError` of the runtime through `done`.
        """
        size = work.size
        self._admit(work, size)
        step = self._limits.max_rows
        if work.nbytes > self._limits.max_bytes:
            step = max(1, min(step, self._limits.max_bytes * size // work.nbytes))
        queue = self._queues.get(work.priority)
        if queue is None:
            queue = self._queues[work.priority] = {}
        for piece in work.cut(step):
            queue[piece] = None
        self._waiting_rows += size
        self._idle.clear()
        if work.deadline != math.inf:
            loop = asyncio.get_running_loop()
            work.expire(loop.call_at(work.deadline, self._expire, work))
        if len(self._running) < self._limits.lanes and not self._scheduled:
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
            waiting = [piece for queue in self._queues.values() for piece in queue]
            running = [piece for batch in self._running for piece in batch.pieces]
            self._fail([*running, *waiting], _shutting_down())  # 3
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
        left = work.deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise _late()
        if not self._running and not self._waiting_rows:
            return  # whatever was measured before: an idle model is tried, or one slow batch would shut it for ever
        ahead = self.seconds_ahead
        if ahead + self._seconds_for(rows) > SHARE_OF_DEADLINE * left:  # it would be late, and for nothing
            raise Overloaded(
                f"{ahead * 1e3:.0f} ms of work are waiting",
                f"the request has {left * 1e3:.0f} ms left",
                "ask again, or give it more time",
                retry_after=ahead,
            )

    def _seconds_for(self, rows: int) -> float:
        batches, rest = divmod(rows, self._limits.max_rows)
        return batches * self._pace.at_most(self._limits.max_rows) + (self._pace.at_most(rest) if rest else 0.0)

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
            if piece in queue:
                del queue[piece]
                self._waiting_rows -= piece.size

    def _settle(self) -> None:
        if not self._running and not self._waiting_rows:
            self._idle.set()

    def _next_batch(self) -> list[_Piece]:
        """The oldest piece of the first priority and those after it that may go with it.

        The oldest always goes, so within a priority nothing starves. What comes later does not make it late.
        """
        batch: list[_Piece] = []
        rows = size = 0
        limits = self._limits
        most = self._pace.most_inline(limits.max_rows, self._waiting_rows) if limits.inline else limits.max_rows
        for piece in self._in_order():
            if batch:
                if piece.alone or piece.work.parameters != batch[0].work.parameters:
                    continue
                if rows + piece.size > most or size + piece.nbytes > limits.max_bytes:
                    break
            batch.append(piece)
            rows += piece.size
            size += piece.nbytes
            if piece.work.deadline != math.inf:
                most = min(most, max(rows, self._rows_until(piece.work.deadline)))
            if piece.alone or rows >= most:
                break
        if limits.buckets and not limits.pad:
            batch = self._cut_at_bucket(batch, rows)
        for piece in batch:
            del self._queues[piece.work.priority][piece]
            self._waiting_rows -= piece.size
        return batch

    def _in_order(self) -> Iterator[_Piece]:
        if len(self._queues) == 1:
            (queue,) = self._queues.values()
            return iter(queue)
        return chain.from_iterable(queue for _, queue in sorted(self._queues.items()))

    def _rows_until(self, deadline: float) -> int:
        """Rows of the largest batch that is done by then; of the largest at all, where none is."""
        left = deadline - asyncio.get_running_loop().time()
        rows = self._limits.max_rows
        while rows > 1 and self._pace.at_most(rows) > left:
            rows //= 2
        return rows if self._pace.at_most(rows) <= left else self._limits.max_rows

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
        """Send batches as far as the model's lanes are free."""
        self._scheduled = False
        while self._waiting_rows and len(self._running) < self._limits.lanes:
            if not self._send(_Batch(self._next_batch())):
                return  # the event loop's turn, before the next one runs inline

    def _send(self, batch: _Batch) -> bool:
        """Run a batch; whether a thread does."""
        self._running.append(batch)
        loop = asyncio.get_running_loop()
        try:
            joined = Rows.concatenated([piece.rows for piece in batch.pieces])
            rows = batch.rows = len(joined)
            seen = self._limits.padded(rows)
            if seen != rows:
                joined = joined.padded(seen)
            parameters = batch.pieces[0].work.parameters
            if self._limits.inline and self._pace.inline(seen):
                self._finish(batch, self._timed(joined, parameters))
                return False
            batch.begun = time.perf_counter()
            batch.until = batch.begun + self._pace.at_most(seen)
            running = loop.run_in_executor(self._executor, self._timed, joined, parameters)
        except Exception as error:  # noqa: BLE001  # whatever it is, the callers must hear of it
            self._finish(batch, error)
            return False
        running.add_done_callback(lambda done: self._finish(batch, _outcome(done)))
        return True

    def _timed(self, rows: Rows, parameters: Parameters) -> Outcome | BaseException:
        """Run a batch; also what only ends processes ends here, or its callers would wait for ever."""
        started = time.perf_counter()
        try:
            outputs = self._run(rows, parameters)
            ended = time.perf_counter()
            return _checked(outputs, len(rows)), ended - started, ended
        except BaseException as error:  # noqa: BLE001
            return error

    def _finish(self, batch: _Batch, outcome: Outcome | BaseException) -> None:
        """(1) send what has gathered while the model's thread worked, (2) hand out the outcome."""
        self._running.remove(batch)
        if not isinstance(outcome, BaseException):
            outputs, seconds, ended = outcome
            # To its callers a batch takes until it is back here, which on a busy loop is later than the model is done.
            seen = self._limits.padded(batch.rows)
            if batch.begun is None:
                self._pace.observe(seen, seconds, inline=True)
            else:
                self._pace.observe(seen, time.perf_counter() - batch.begun)
                self._pump()  # 1
            self._hand_out(batch, outputs, ended - seconds, ended)  # 2
        elif len(batch.pieces) > 1:
            self._again_alone(batch.pieces)
        else:
            self._fail(batch.pieces, _as_domain(outcome))
        if self._waiting_rows and not self._scheduled:
            self._schedule()
        self._settle()

    def _hand_out(self, batch: _Batch, outputs: Outputs, started: float, ended: float) -> None:
        pieces, rows = batch.pieces, batch.rows
        if self.on_batch is not None:
            self.on_batch(outputs, rows, ended - started, started - pieces[0].work.created)
        start = 0
        whole = len(pieces) == 1 and self._limits.padded(rows) == rows
        for piece in pieces:
            stop, work = start + piece.size, piece.work
            if work.done is not None:
                work.ran = Ran(work.created, started, ended, rows)
                part = outputs if whole else {name: values[start:stop] for name, values in outputs.items()}
                work.resolve(piece.number, part)
            start = stop

    def _again_alone(self, batch: Sequence[_Piece]) -> None:
        for priority in {piece.work.priority for piece in batch}:
            waiting = self._queues[priority]
            again = {p: None for p in batch if p.work.priority == priority and p.work.done is not None}
            for piece in again:
                piece.alone = True
                self._waiting_rows += piece.size
            self._queues[priority] = again | waiting

    def _fail(self, pieces: Iterable[_Piece], error: InferenceError) -> None:
        for work in {id(piece.work): piece.work for piece in pieces}.values():
            self._leave(work)
            work.end(error)


def model_threads(lanes: int) -> ThreadPoolExecutor:
    """Threads for a model's batches."""
    return ThreadPoolExecutor(lanes, "predict", _yield_to_the_loop)


def _yield_to_the_loop() -> None:
    """On one core the model's thread would take half of it from the event loop, which could not even refuse in time."""
    thread = threading.get_native_id()
    # One that is nicer already, as Ray's processes are, stays so: only root may take that back.
    os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


def _outcome(done: asyncio.Future[Outcome | BaseException]) -> Outcome | BaseException:
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
