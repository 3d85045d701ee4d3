"""The pipeline that every adapter goes through: decode → transform → batch → predict → encode."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from services.inference.core.batcher import Batcher
from services.inference.core.errors import InferenceError, PredictionFailed
from services.inference.core.types import Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from services.inference.core.batcher import BatchLimits
    from services.inference.core.codec import Codec
    from services.inference.core.runtime import Runtime
    from services.inference.core.schema import ModelInfo
    from services.inference.core.types import Outputs, Request, Rows

In = TypeVar("In")
Out = TypeVar("Out")


class Pipeline:
    """One model version, ready to answer. Owns its runtime and its batcher."""

    def __init__(self, runtime: Runtime, info: ModelInfo, limits: BatchLimits) -> None:
        self.info = info
        self._runtime = runtime
        self._limits = limits
        self._batcher: Batcher | None = None

    def warm_up(self) -> None:
        """Run the smallest and the largest batch, so that no caller pays for a first call."""
        example = self.info.metadata.example
        for rows in (1, self._limits.max_rows):
            self._runtime.predict(self._runtime.transform(example.repeated(rows)), ())

    async def infer(self, body: In, codec: Codec[In, Out], request_id: str = "") -> tuple[Out, Response]:
        """Answer one request; the response comes too, for the adapter's accounts.

        `request_id` stands in where the body brings none. Errors are `InferenceError`.
        """
        started = time.perf_counter()
        request = codec.decode(body, self.info)
        outputs = await self._batch(request)
        response = Response(
            id=request.id or request_id,
            outputs=outputs,
            rows=len(request.rows),
            seconds=time.perf_counter() - started,
        )
        return codec.encode(request, response, self.info), response

    def infer_many(self, batches: Iterable[Rows]) -> Iterator[Response]:
        """Answer batches in order, one at a time and lazily: a batch job holds one in memory.

        It blocks, and predicts on the caller's thread; batches may have any number of rows.
        """
        for number, rows in enumerate(batches):
            started = time.perf_counter()
            step = self._limits.max_rows
            parts = [
                self._runtime.predict(self._runtime.transform(rows[at : at + step]), ())
                for at in range(0, len(rows), step)
            ]
            outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
            yield Response(id=str(number), outputs=outputs, rows=len(rows), seconds=time.perf_counter() - started)

    async def _batch(self, request: Request) -> Outputs:
        if self._batcher is None:  # made here because it belongs to the running event loop
            self._batcher = Batcher(self._runtime.predict, self._limits)
        return await self._batcher.submit(self._transformed(request.rows), request.parameters)

    def _transformed(self, rows: Rows) -> Rows:
        try:
            return self._runtime.transform(rows)
        except InferenceError:
            raise
        except Exception as error:
            raise PredictionFailed(
                f"the transformer raised {type(error).__name__}",
                "it takes every row that the schema accepts",
                "read the service's log for the cause",
            ) from error

    async def close(self, grace_seconds: float) -> None:
        """Finish what was accepted, then give the model's memory back."""
        if self._batcher is not None:
            await self._batcher.close(grace_seconds)
        self._runtime.close()
