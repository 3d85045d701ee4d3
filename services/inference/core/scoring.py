"""Scoring of many rows past the batcher, in which a bad row fails alone.

1. rows are checked against the schema and transformed; where that fails they are halved until the bad row is alone
2. what is left goes to the model, in steps of a batch's rows; where it raises, that step is halved likewise

Bad rows are few, so the halving is rare; n rows with k bad ones cost k·log n tries more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from services.inference.core.codec.rows import checked
from services.inference.core.errors import InferenceError, PredictionFailed
from services.inference.core.types import Rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.inference.core.runtime import Runtime
    from services.inference.core.schema import Schema
    from services.inference.core.types import Array, Outputs

T = TypeVar("T")
Piece = tuple[int, int, T]
"""What came of the rows from the first number to before the second."""


class Refused(NamedTuple):
    """A row that cannot be scored, by its number in the batch."""

    row: int
    error: InferenceError


class Scored(NamedTuple):
    """A batch's results: `outputs` are those of the rows whose numbers `kept` has, in order."""

    outputs: Outputs
    kept: Array
    refused: list[Refused]


def score(rows: Rows, schema: Schema, runtime: Runtime, most_rows: int) -> Scored:
    """Score rows that nothing has checked yet, at most `most_rows` at once. Only the model's own errors are caught."""

    def prepare(at: int, until: int) -> Rows:
        part = rows[at:until]
        return runtime.transform(part if schema.tensors else checked(part, schema))

    prepared, refused = _halving(prepare, 0, len(rows), "the transformer")
    kept = np.concatenate([np.arange(at, until) for at, until, _ in prepared]) if prepared else np.arange(0)
    if not len(kept):
        return Scored({}, kept, refused)
    inputs = Rows.concatenated([part for _, _, part in prepared])
    pieces: list[Piece[Outputs]] = []
    for step in range(0, len(kept), most_rows):
        found, failed = _halving(
            # Its own rows, which it may write to: where it fails half-way they are tried again as they were.
            lambda at, until: runtime.predict(inputs[at:until].copy(), ()),
            step,
            min(step + most_rows, len(kept)),
            "the model",
        )
        pieces += found
        refused += [Refused(int(kept[row]), error) for row, error in failed]
    if not pieces:
        return Scored({}, kept[:0], sorted(refused, key=lambda each: each.row))
    outputs = {name: np.concatenate([each[name] for _, _, each in pieces]) for name in pieces[0][2]}
    answered = np.concatenate([kept[at:until] for at, until, _ in pieces])
    return Scored(outputs, answered, sorted(refused, key=lambda each: each.row))


def _halving(call: Callable[[int, int], T], start: int, stop: int, who: str) -> tuple[list[Piece[T]], list[Refused]]:
    """Call with whole ranges where they can be taken; in order, without recursion."""
    found: list[Piece[T]] = []
    refused: list[Refused] = []
    waiting = [(start, stop)] if stop > start else []
    while waiting:
        at, until = waiting.pop()
        try:
            found.append((at, until, call(at, until)))
        except Exception as error:  # noqa: BLE001  # a model may raise anything, and the row that it does is told
            if until - at > 1:
                middle = (at + until) // 2
                waiting += [(middle, until), (at, middle)]
            else:
                refused.append(Refused(at, _named(error, who)))
    return found, refused


def _named(error: Exception, who: str) -> InferenceError:
    if isinstance(error, InferenceError):
        return error
    told = PredictionFailed(
        f"{who} raised {type(error).__name__}: {error}"[:200],
        "it takes every row that the schema accepts",
        "correct the model",
    )
    told.__cause__ = error
    return told
