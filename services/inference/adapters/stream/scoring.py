"""A micro-batch of messages → what becomes of each: an answer, or why there is none. No Kafka here.

One bad message must not cost its neighbours their answers, nor a good batch the speed of one call: the whole batch is
tried first, and where that fails its halves are, down to the message that is to blame.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from services.inference.core.codec.base import read_object, write
from services.inference.core.codec.rows import from_nested, from_objects
from services.inference.core.errors import InferenceError, PredictionFailed
from services.inference.core.types import Request, Response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.inference.core.pipeline import Observer, Pipeline
    from services.inference.core.types import Array, Outputs, Rows

MESSAGE_LENGTH = 500
"""Characters of an error that a dead letter carries: a model's exception may hold a whole matrix."""


class Refusal(NamedTuple):
    """Why a message has no answer."""

    error: str
    """Name of the error's class."""
    message: str


Outcome = bytes | Refusal
"""The output message's value, JSON; or why there is none."""


def refusal(error: InferenceError) -> Refusal:
    """A domain error as a dead letter has it."""
    return Refusal(type(error).__name__, str(error)[:MESSAGE_LENGTH])


TOMBSTONE = Refusal("Tombstone", "the message has no value → a JSON object of features → send one, or drop the key")


class Scorer:
    """One model version for the messages of a stream."""

    def __init__(self, pipeline: Pipeline, observer: Observer | None = None) -> None:
        self.pipeline = pipeline
        self._observer = observer
        self._schema = pipeline.info.metadata.schema
        self._read = from_nested if self._schema.tensors else from_objects
        self._version = write(pipeline.info.version)

    def score(self, values: Sequence[bytes | None]) -> list[Outcome]:
        """One outcome for each value, in order. Raises nothing that a message or the model is to blame for."""
        # A message's objects are read and its answer is written around its own bytes: written again they would cost as
        # much as the reading, and could differ.
        outcomes: list[Outcome] = [TOMBSTONE] * len(values)
        features: list[dict[str, Any]] = []
        places: list[int] = []
        for at, value in enumerate(values):
            if value is None:
                continue
            try:
                found = orjson.loads(value)
                if type(found) is not dict:
                    found = read_object(value)
            except orjson.JSONDecodeError:
                outcomes[at] = _not_json(value)
            except InferenceError as error:
                outcomes[at] = refusal(error)
            else:
                features.append(found)
                places.append(at)
        for at, outcome in zip(places, self._answers(features, [values[at] for at in places]), strict=True):
            outcomes[at] = outcome
        return outcomes

    def _answers(self, features: Sequence[dict[str, Any]], values: Sequence[bytes | None]) -> list[Outcome]:
        if not features:
            return []
        try:
            rows, outputs = self._run(features)
        except InferenceError as error:
            if len(features) == 1:
                return [refusal(error)]
            half = len(features) // 2
            return [
                *self._answers(features[:half], values[:half]),
                *self._answers(features[half:], values[half:]),
            ]
        answers = self._encode(outputs, values)
        if self.pipeline.mirrors:
            response = Response(id="", outputs=outputs, rows=len(rows))
            for mirror in self.pipeline.mirrors:
                mirror(self.pipeline, Request(rows=rows), response)
        return answers

    def _run(self, features: Sequence[dict[str, Any]]) -> tuple[Rows, Outputs]:
        """Rows and outputs of them all; `InferenceError` where one of them spoils it."""
        rows = self._read(features, self._schema, "message")
        started = time.perf_counter()
        try:
            outputs = self.pipeline.run(rows, ())
        except InferenceError:
            raise
        except Exception as error:
            raise PredictionFailed(
                f"the model raised {type(error).__name__}: {str(error)[:MESSAGE_LENGTH]}",
                "it takes every row that its schema accepts",
                "mend the model, then `slipway stream replay`",
            ) from error
        wrong = [name for name, values in outputs.items() if len(values) != len(rows)]
        if wrong or not outputs:
            raise PredictionFailed(
                f"the model answered {len(rows)} rows with {len(outputs[wrong[0]]) if wrong else 'no outputs'}",
                "one result per row",
                "mend the model, then `slipway stream replay`",
            )
        if self._observer is not None:
            seconds = time.perf_counter() - started
            self._observer.batch(self.pipeline.info, outputs, rows=len(rows), seconds=seconds, waited=0.0)
        return rows, outputs

    def _encode(self, outputs: Outputs, values: Sequence[bytes | None]) -> list[Outcome]:
        """`{"input": …, "prediction": …, "probability": …, "timestamp": …, "model_version": …}` for each."""
        answered = outputs.get("prediction")
        if answered is None:  # a pyfunc may name its result as it likes
            answered = outputs[self.pipeline.info.metadata.score]
        predictions = _texts(answered)
        probability = outputs.get("probability")
        probabilities = [b"null"] * len(values) if probability is None else _texts(probability)
        end = b',"timestamp":"%s","model_version":%s}' % (datetime.now(UTC).isoformat().encode(), self._version)
        return [
            b'{"input":%s,"prediction":%s,"probability":%s%s' % (value, prediction, probability, end)
            for value, prediction, probability in zip(values, predictions, probabilities, strict=True)
        ]


def _texts(values: Array) -> list[bytes]:
    """Each row's value as JSON. Numbers are written together: a call for each costs more than the number."""
    if values.ndim == 1 and values.dtype.kind in "fiub":
        return orjson.dumps(values.tolist())[1:-1].split(b",")
    return [write(value) for value in values.tolist()]


def _not_json(value: bytes) -> Refusal:
    try:
        read_object(value)
    except InferenceError as error:
        return refusal(error)
    return Refusal("MalformedBody", "NaN or Infinity → JSON has no such number → send null, or leave the message out")
