"""How long a model's batches take: what decides where they run, and which requests are accepted."""

from __future__ import annotations

import bisect

INLINE_SECONDS = 0.0015
"""A thread's turn costs some 50 µs, and as long as this the loop can well do without reading from its sockets."""

WORTH_A_TURN = 1.2
"""How much dearer rows are in the largest batch inline than in one on the thread, for that to be worth its turn."""

WEIGHT = 0.2
"""Of the newest measurement in the running mean: a few batches to follow a change."""

STALLS = 2.0
"""How far one inline batch weighs at most, in times of what would be too long: one long batch is the machine's doing,
four in a row are the model's. On the thread a small model answers half as many."""

AWAY, RETURN = 10.0, 0.1
"""A model that stalls inline is sent to the thread for some twenty batches before it is tried again."""

DEVIATIONS = 2
"""Mean deviations above the mean that a batch is allowed for when a request is accepted by its deadline."""


class Pace:
    """How long batches take: a curve over their size, times what the machine makes of it just now.

    The curve is learnt when the model is warmed up. Later, other work on the same cores slows batches of every size
    alike, so that each batch tells of all sizes, those that are rare included.
    """

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._seconds: list[float] = []
        self._load = 1.0
        self._deviation = 0.0
        self._stall = 1.0
        """The load as inline batches show it."""

    def learn(self, rows: int, seconds: float) -> None:
        """Put a point on the curve."""
        at = bisect.bisect_left(self._rows, rows)
        if at < len(self._rows) and self._rows[at] == rows:
            self._seconds[at] = seconds
        else:
            self._rows.insert(at, rows)
            self._seconds.insert(at, seconds)

    def observe(self, rows: int, seconds: float, *, inline: bool = False) -> None:
        """Take one batch's measurement in; `inline` where it ran on the event loop's thread."""
        at = bisect.bisect_left(self._rows, rows)
        near = self._rows[max(at - 1, 0) : at + 1]
        if not any(point <= 2 * rows and rows <= 2 * point for point in near):
            self.learn(rows, seconds / self._load)
            return
        usual = self._usual(rows)
        if usual > 0:
            difference = seconds / usual - self._load
            self._load += WEIGHT * difference
            self._deviation += WEIGHT * (abs(difference) - self._deviation)
            # Beside a busy loop another thread's batches take longer than they would inline: no reason to stay there.
            if inline:
                self._stall += WEIGHT * (min(seconds / usual, STALLS * INLINE_SECONDS / usual) - self._stall)
                if usual * self._stall >= INLINE_SECONDS:
                    self._stall *= AWAY
            else:
                self._stall += RETURN * (1 - self._stall)

    def inline(self, rows: int) -> bool:
        """Whether a batch of that many rows holds the event loop up for less than another thread would."""
        return bool(self._rows) and self._usual(rows) * self._stall < INLINE_SECONDS

    def most_inline(self, most: int, waiting: int) -> int:
        """Rows of the largest batch, up to `most` and by halves of it, that may run inline; `most` where none may.

        Many rows that wait are better two short batches inline than one on the thread, unless that costs much less.
        """
        rows = most
        while rows > 1 and not self.inline(rows):
            rows //= 2
        if not self.inline(rows):
            return most
        together = min(most, waiting)
        dear = rows < together and self._per_row(rows) > WORTH_A_TURN * self._per_row(together)
        return most if dear else rows

    def expected(self, rows: int) -> float | None:
        """Seconds for a batch of that many rows; None before anything is known."""
        return self._usual(rows) * self._load if self._rows else None

    def at_most(self, rows: int) -> float:
        """Seconds that a batch of that many rows will hardly exceed; 0 before anything is known."""
        return self._usual(rows) * (self._load + DEVIATIONS * self._deviation) if self._rows else 0.0

    def _per_row(self, rows: int) -> float:
        return self._usual(rows) / rows

    def _usual(self, rows: int) -> float:
        sizes, seconds = self._rows, self._seconds
        at = bisect.bisect_left(sizes, rows)
        if at == len(sizes):  # larger than any: in proportion
            return seconds[-1] * rows / sizes[-1]
        if at == 0 or sizes[at] == rows:  # smaller than any: no faster
            return seconds[at]
        share = (rows - sizes[at - 1]) / (sizes[at] - sizes[at - 1])
        return seconds[at - 1] + share * (seconds[at] - seconds[at - 1])
