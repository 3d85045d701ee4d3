"""Stages of a part on threads of their own: each runs ahead of the next by a bounded number of items."""

from __future__ import annotations

import queue
import threading
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")

AHEAD = 2
"""Items that wait between two stages: one to be taken at once, one more while the other thread sleeps."""

LOOK_SECONDS = 0.1
"""Between two looks of a waiting stage at whether anyone still wants its items."""


class _End:
    """After the last item: how the stage ended."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(items: Generator[T, None, None], most: int = AHEAD) -> Generator[T, None, None]:
    """The items, made on a thread. Its error is raised here, after what it made before; closing this ends it."""
    waiting: queue.Queue[T | _End] = queue.Queue(most)
    unwanted = threading.Event()
    thread = threading.Thread(target=_make, args=(items, waiting, unwanted), daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        unwanted.set()
        thread.join()


def _make(items: Generator[T, None, None], waiting: queue.Queue[T | _End], unwanted: threading.Event) -> None:
    error: BaseException | None = None
    try:
        with closing(items):
            for item in items:
                if not _put(item, waiting, unwanted):
                    return
    except BaseException as raised:  # noqa: BLE001  # whatever it is belongs to the stage that waits for the items
        error = raised
    _put(_End(error), waiting, unwanted)


def _put(item: T | _End, waiting: queue.Queue[T | _End], unwanted: threading.Event) -> bool:
    while not unwanted.is_set():
        try:
            waiting.put(item, timeout=LOOK_SECONDS)
        except queue.Full:
            continue
        return True
    return False
