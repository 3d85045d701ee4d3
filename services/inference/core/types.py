"""What flows through the pipeline: rows in, named outputs out, all numpy, no protocol.

Rows travel as two blocks rather than as one array per feature: joining a batch is then
two concatenations however many features there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Scalar = str | int | float | bool
Parameters = tuple[tuple[str, Scalar], ...]
"""A request's parameters, sorted by name: hashable, so that a batch can be keyed by them."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of features, split by how they are stored.

    `numbers` is float [rows, numeric features] in schema order, a missing value is NaN;
    `texts` is object [rows, text features] in schema order, a missing value is None.
    """

    numbers: Array
    texts: Array

    def __len__(self) -> int:
        """Count rows, the unit of every limit."""
        return int(self.numbers.shape[0])

    def __getitem__(self, part: slice) -> Rows:
        return Rows(self.numbers[part], self.texts[part])

    def repeated(self, count: int) -> Rows:
        """`count` rows, cycling through these."""
        at = np.arange(count) % len(self)
        return Rows(self.numbers[at], self.texts[at])

    @staticmethod
    def of_numbers(numbers: Array) -> Rows:
        """Rows without a text feature; `numbers` is [rows, features]."""
        return Rows(numbers, np.empty((numbers.shape[0], 0), dtype=object))

    @staticmethod
    def concatenated(parts: Sequence[Rows]) -> Rows:
        """Join rows of one schema, in order; a single part is passed through without a copy."""
        if len(parts) == 1:
            return parts[0]
        return Rows(np.concatenate([p.numbers for p in parts]), np.concatenate([p.texts for p in parts]))


Outputs = Mapping[str, Array]
"""Named results; the first dimension of each is the row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One decoded request, whatever protocol it came by."""

    rows: Rows
    id: str = ""
    """The caller's id, empty where there is none."""
    parameters: Parameters = ()
    outputs: tuple[str, ...] = ()
    """Names of the outputs that the caller wants; empty for all."""
    single: bool = False
    """The caller sent one row outside a list and expects one answer outside a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The answer to one request, before a protocol gives it a shape."""

    id: str
    outputs: Outputs
    rows: int
    seconds: float = field(default=0.0)
    """From the arrival of the body to the model's result."""
