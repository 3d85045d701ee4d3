"""How much at once, and how often."""

from __future__ import annotations

FIRST_ROWS = 16
"""Of the first micro-batch, before it is known how long they take."""
LONG_SECONDS = 1.0
"""A micro-batch that takes longer is too large: the worker has to answer its group, and its transaction, in time."""


class Pace:
    """Sizes of micro-batches and the time between commits. They grow while the model is quick, else shrink."""

    def __init__(self, *, most_rows: int, batch_seconds: float, commit_seconds: float) -> None:
        self.rows = min(FIRST_ROWS, most_rows)
        self.batch_seconds = batch_seconds
        self.commit_seconds = commit_seconds
        self._most_rows = most_rows

    def took(self, rows: int, seconds: float) -> None:
        """A micro-batch of that size took so long."""
        if seconds > LONG_SECONDS:
            self.rows = max(1, min(self.rows, rows) // 2)
        elif seconds < LONG_SECONDS / 4 and rows >= self.rows < self._most_rows:
            self.rows = min(self._most_rows, self.rows * 2)
