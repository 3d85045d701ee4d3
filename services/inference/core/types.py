"""What flows through the pipeline: rows in, named outputs out, all numpy, no protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Scalar = str | int | float | bool
Parameters = tuple[tuple[str, Scalar], ...]
"""A request's parameters, sorted by name: hashable, so that a batch can be keyed by them."""


class Rows:
    """Rows of a model's inputs as blocks: arrays [rows, …], to which the model's schema gives their meaning.

    A model of tensors has one block per tensor, in the schema's order. A model of features has at most two, however
    many features there are, so that joining a batch is cheap: `numbers`, float [rows, numeric features] with NaN for a
    missing value, and where there are any `texts`, object [rows, text features] with None for a missing one.
    """

    __slots__ = ("blocks",)

    def __init__(self, *blocks: Array) -> None:
        self.blocks = blocks

    def __len__(self) -> int:
        """Count rows, the unit of every limit."""
        return int(self.blocks[0].shape[0])

    def __getitem__(self, part: slice) -> Rows:
        return Rows(*[block[part] for block in self.blocks])

    @property
    def numbers(self) -> Array:
        """Numeric features; of a model of one tensor, that tensor."""
        return self.blocks[0]

    @property
    def texts(self) -> Array:
        """Text features, [rows, 0] where there are none."""
        return self.blocks[1] if len(self.blocks) > 1 else np.empty((len(self), 0), dtype=object)

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks; of texts the pointers only."""
        blocks = self.blocks
        return blocks[0].nbytes if len(blocks) == 1 else sum(block.nbytes for block in blocks)

    def repeated(self, count: int) -> Rows:
        """`count` rows, cycling through these."""
        at = np.arange(count) % len(self)
        return Rows(*[block[at] for block in self.blocks])

    def padded(self, count: int) -> Rows:
        """These rows, then the last one again up to `count`."""
        at = np.minimum(np.arange(count), len(self) - 1)
        return Rows(*[block[at] for block in self.blocks])

    def copy(self) -> Rows:
        """The same rows in arrays of their own."""
        return Rows(*[block.copy() for block in self.blocks])

    @staticmethod
    def concatenated(parts: Sequence[Rows]) -> Rows:
        """Join rows of one schema, in order, in arrays of their own: also a single part, which a model may write to."""
        if len(parts) == 1:
            return parts[0].copy()
        return Rows(*[np.concatenate(blocks) for blocks in zip(*[part.blocks for part in parts], strict=True)])


class Ran(NamedTuple):
    """When a request's batch ran, by `time.perf_counter`, and how large it was; of a request that was cut, the last."""

    created: float
    """When the request reached the batcher."""
    started: float
    ended: float
    rows: int


Outputs = Mapping[str, Array]
"""Named results; the first dimension of each is the row."""


# A frozen dataclass takes four times as long to make, and these are made for every request.
@dataclass(slots=True, kw_only=True)
class Request:
    """One decoded request, whatever protocol it came by."""

    rows: Rows
    id: str = ""
    """The caller's id, empty where there is none."""
    parameters: Parameters = ()
    """What the model gets besides the rows."""
    outputs: tuple[str, ...] = ()
    """Names of the outputs that the caller wants; empty for all."""
    binary: frozenset[str] = frozenset()
    """Outputs that the caller wants as raw bytes, where the protocol has such a thing."""
    single: bool = False
    """The caller sent one row outside a list and expects one answer outside a list."""
    timeout: float | None = None
    """Seconds after which the caller does not wait any more."""
    priority: int = 0
    """Smaller goes first; 0 where the caller says nothing."""


@dataclass(slots=True, kw_only=True)
class Response:
    """The answer to one request, before a protocol gives it a shape."""

    id: str
    outputs: Outputs
    rows: int
    seconds: float = field(default=0.0)
    """From the arrival of the body to the model's result."""
    ran: Ran | None = None
