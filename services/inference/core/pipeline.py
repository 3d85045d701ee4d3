"""The pipeline that every adapter goes through: decode → transform → batch → predict → encode."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from services.inference.core.batcher import Batcher, Work, model_threads
from services.inference.core.errors import DeadlineExceeded, InferenceError, PredictionFailed, Unavailable
from services.inference.core.pace import Pace
from services.inference.core.scoring import score
from services.inference.core.types import Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from services.inference.core.batcher import BatchLimits
    from services.inference.core.codec import Codec
    from services.inference.core.runtime import Runtime
    from services.inference.core.schema import ModelInfo
    from services.inference.core.scoring import Scored
    from services.inference.core.types import Outputs, Parameters, Request, Rows

In = TypeVar("In")
Out = TypeVar("Out")
Answer = Callable[[tuple[Out, Response] | Exception], None]
"""What an adapter hands in to be called once, with the encoded answer and its account, or with what went wrong."""

LARGE_BODY_BYTES = 256 * 1024
"""A larger body is decoded on a thread: on the event loop it would hold up everyone for milliseconds."""

WARM_UP_ROUNDS, WARM_UP_MOST = 3, 20
"""Runs of each batch size before the first request: the first compile and allocate, the fastest shows the pace."""
WARM_UP_SHORT_SECONDS, WARM_UP_LONG_SECONDS = 0.01, 0.5
"""All runs of a size take the first at least, where the most of them do; what takes the second is not run again."""


Mirror = Callable[["Pipeline", "Request", Response], None]


class Observer(Protocol):
    """Told what happens to a pipeline's requests, for metrics."""

    def batch(self, info: ModelInfo, outputs: Outputs, *, rows: int, seconds: float, waited: float) -> None:
        """A batch has run; `outputs` may be padded beyond `rows`."""

    def shed(self, info: ModelInfo, reason: str) -> None:
        """A request was refused because of load, or its time passed; `reason` is the error's code."""


class Pipeline:
    """One model version, ready to answer. Owns its runtime and its batcher."""

    def __init__(
        self, runtime: Runtime, info: ModelInfo, limits: BatchLimits, observer: Observer | None = None
    ) -> None:
        self.info = info
        self._observer = observer
        self._runtime = runtime
        on_cpu = runtime.metadata.device == "cpu"
        self._limits = replace(limits, lanes=runtime.metadata.lanes, inline=on_cpu)
        self.step_rows = limits.max_rows
        """Rows that `infer_many` gives to the model at once: what was asked for, whatever warm-up has measured, so that
        the same rows are answered alike on another day."""
        self._pace = Pace()
        self._threads = model_threads(runtime.metadata.lanes)
        self._made: Batcher | None = None
        self.mirrors: Sequence[Mirror] = ()
        """See every request that was answered, after its caller has the answer."""

    @property
    def batcher(self) -> Batcher:
        """Made at the first use, because it belongs to the running event loop."""
        if self._made is None:
            self._made = Batcher(self._runtime.predict, self._limits, self._pace, self._threads)
            if self._observer is not None:
                self._made.on_batch = self._tell
        return self._made

    @property
    def most_rows(self) -> int:
        """Rows of the largest request that is accepted."""
        return self._limits.max_queued_rows

    def _tell(self, outputs: Outputs, rows: int, seconds: float, waited: float) -> None:
        if self._observer is not None:
            self._observer.batch(self.info, outputs, rows=rows, seconds=seconds, waited=waited)

    def _account(self, error: Exception) -> None:
        if self._observer is not None and isinstance(error, (Unavailable, DeadlineExceeded)):
            self._observer.shed(self.info, error.code)

    def warm_up(self) -> None:
        """Run batches of every size: no caller pays for a first call, and the batcher knows what size pays."""
        example = self.info.metadata.example
        taken: dict[int, float] = {}
        for rows in self._limits.sizes():
            batch = self._runtime.transform(example.repeated(rows))
            times = [self._time(batch)]
            while len(times) < WARM_UP_ROUNDS and sum(times) < WARM_UP_LONG_SECONDS:
                times.append(self._time(batch))
            while len(times) < WARM_UP_MOST and sum(times) < WARM_UP_SHORT_SECONDS:
                times.append(self._time(batch))
            taken[rows] = min(times)
            self._pace.learn(rows, taken[rows])
            if taken[rows] > WARM_UP_LONG_SECONDS and not self._limits.buckets:
                break  # a larger one would hold up everyone
        self._limits = self._limits.at_best(taken)

    def _time(self, batch: Rows) -> float:
        """Seconds of one run, on a thread that runs it later: what is compiled may belong to its thread."""

        def run() -> float:
            started = time.perf_counter()
            self._runtime.predict(batch, ())
            return time.perf_counter() - started

        return self._threads.submit(run).result()

    def start(
        self,
        body: In,
        codec: Codec[In, Out],
        answer: Answer[Out],
        request_id: str = "",
        patience: float | None = None,
    ) -> Work | None:
        """Begin one request; `answer` is called with what came of it, now or later, on the event loop.

        `request_id` and `patience`, seconds, stand in where the body brings none. The work is what `cancel` takes; None
        where all is over.
        """
        started = time.perf_counter()
        try:
            request, rows = self.read(body, codec)
            if request.timeout is None:
                request.timeout = patience
            return self._submit(request, rows, codec, answer, request_id, started)
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller must hear of it
            answer(error)
            return None

    async def infer(
        self, body: In, codec: Codec[In, Out], request_id: str = "", patience: float | None = None
    ) -> tuple[Out, Response]:
        """`start` for a caller that waits; the body is decoded on a thread. Errors are `InferenceError`."""
        started = time.perf_counter()
        request, rows = await asyncio.to_thread(self.read, body, codec)
        if request.timeout is None:
            request.timeout = patience
        answered: asyncio.Future[tuple[Out, Response]] = asyncio.get_running_loop().create_future()

        def answer(outcome: tuple[Out, Response] | Exception) -> None:
            if answered.done():
                return
            if isinstance(outcome, Exception):
                answered.set_exception(outcome)
            else:
                answered.set_result(outcome)

        work = self._submit(request, rows, codec, answer, request_id, started)
        try:
            return await answered
        finally:
            self.cancel(work)

    def cancel(self, work: Work | None) -> None:
        """Nobody waits for that work any more."""
        if work is not None:
            self.batcher.cancel(work)

    def infer_many(self, batches: Iterable[Rows]) -> Iterator[Scored]:
        """Score batches of unchecked rows in order, one at a time and lazily: a batch job holds one in memory.

        It blocks, and predicts on the caller's thread; batches may have any number of rows. A row that cannot be
        scored takes no other with it: it is among the batch's `refused`, with its error.
        """
        for rows in batches:
            yield score(rows, self.info.metadata.schema, self._runtime, self.step_rows)

    def run(self, rows: Rows, parameters: Parameters) -> Outputs:
        """Transform and predict on the caller's thread, past the batcher; any number of rows up to a batch's."""
        return self._runtime.predict(self._runtime.transform(rows).copy(), parameters)

    def read(self, body: In, codec: Codec[In, Out]) -> tuple[Request, Rows]:
        """Decode and transform: the request and the model's input of it. Safe on any thread."""
        request = codec.decode(body, self.info)
        try:
            return request, self._runtime.transform(request.rows)
        except InferenceError:
            raise
        except Exception as error:
            raise PredictionFailed(
                f"the transformer raised {type(error).__name__}",
                "it takes every row that the schema accepts",
                "read the service's log for the cause",
            ) from error

    def _submit(
        self,
        request: Request,
        rows: Rows,
        codec: Codec[In, Out],
        answer: Answer[Out],
        request_id: str,
        started: float,
    ) -> Work:
        info = self.info

        def done(outcome: Outputs | InferenceError) -> None:
            try:
                if isinstance(outcome, InferenceError):
                    self._account(outcome)
                    answer(outcome)
                    return
                response = Response(
                    id=request.id or request_id,
                    outputs=outcome,
                    rows=work.size,
                    seconds=time.perf_counter() - started,
                    ran=work.ran,
                )
                encoded = codec.encode(request, response, info)
            except Exception as error:  # noqa: BLE001  # one caller's answer must not take its neighbours' with it
                answer(error)
            else:
                answer((encoded, response))
                for mirror in self.mirrors:
                    mirror(self, request, response)

        deadline = math.inf
        if request.timeout is not None:
            deadline = asyncio.get_running_loop().time() + request.timeout
        work = Work(rows, done, parameters=request.parameters, priority=request.priority, deadline=deadline)
        try:
            self.batcher.submit(work)
        except InferenceError as error:
            self._account(error)
            raise
        return work

    async def close(self, grace_seconds: float) -> None:
        """Finish what was accepted, then give the model's memory back."""
        if self._made is not None:
            await self._made.close(grace_seconds)
        self._threads.shutdown(wait=False)
        self._runtime.close()
