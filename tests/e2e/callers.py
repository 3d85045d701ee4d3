"""Callers of a model at the gateway, and waiting for what comes of it."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import httpx


class Callers:
    """Callers that ask again and again through the gateway, until the block ends.

    `rows` are asked in any order; `pause` is what each waits between two questions, in seconds.
    """

    COUNT = 4

    def __init__(self, endpoint, rows, *, pause=0.0):
        self._endpoint, self._rows, self._pause = endpoint, rows, pause
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self.answers = []
        """(when, by the monotonic clock; status or error; release), in order."""
        self._threads = [threading.Thread(target=self._call, args=(seed,)) for seed in range(self.COUNT)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self.served(50)
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def statuses(self):
        return Counter(status for _, status, _ in self.answers)

    @property
    def releases(self):
        return Counter(release for _, _, release in self.answers)

    def first_by(self, release, after):
        return next(when for when, _, by in self.answers if by == release and when >= after)

    def last_by(self, release):
        return next(when for when, _, by in reversed(self.answers) if by == release)

    def served(self, more):
        """Wait for so many more answers with status 200."""
        with self._changed:
            wanted = self.statuses[200] + more
            assert self._changed.wait_for(lambda: self.statuses[200] >= wanted, timeout=120), self.statuses

    def _call(self, seed):
        chance = random.Random(seed)  # noqa: S311  # the same in every run
        while not self._stop.wait(self._pause):
            try:
                # Each on a connection of its own, as so many callers would.
                body = {"features": chance.choice(self._rows)}
                answer = httpx.post(f"{self._endpoint}/predict", json=body, timeout=30)
                status, release = answer.status_code, answer.headers.get("x-model-version", "")
            except httpx.HTTPError as error:
                status, release = type(error).__name__, ""
            with self._changed:
                self.answers.append((time.monotonic(), status, release))
                self._changed.notify_all()


def until(condition, seconds=60):
    """Wait for what is measured with a delay."""
    end, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        pause.wait(0.5)
