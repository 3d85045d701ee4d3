"""Waiting for a server that a test has started."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable

BETWEEN_SECONDS = 0.1


def until(condition: Callable[[], bool], within: float, what: str) -> None:
    """Returns as soon as the condition holds; fails the test when it does not within so many seconds."""
    deadline = time.monotonic() + within
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {within} s"
        pause.wait(BETWEEN_SECONDS)


def answers(url: str, *, verify: bool = True) -> Callable[[], bool]:
    """The condition that a GET of the address succeeds."""

    def asked() -> bool:
        try:
            return httpx.get(url, verify=verify, timeout=10).is_success
        except httpx.HTTPError:
            return False

    return asked
