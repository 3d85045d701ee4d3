"""The messages that a worker writes: answers beside what came with the question, dead letters with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from services.contract import DeadLetter
from services.inference.adapters.stream.output import Record
from services.inference.adapters.stream.scoring import Refusal

if TYPE_CHECKING:
    from confluent_kafka import Message

    from services.inference.adapters.stream.output import Headers
    from services.inference.adapters.stream.scoring import Outcome

PASSED = frozenset({"traceparent", "tracestate", "x-request-id"})
"""Headers that an answer carries on."""

OVERHEAD_BYTES = 128
"""Of a batch and of a message in it beyond key, value and headers, with room."""
HEADER_OVERHEAD_BYTES = 10


class Topic(NamedTuple):
    """Where to write."""

    name: str
    partitions: int
    max_bytes: int
    """Size of a message at most, as the broker has it."""
    compacted: bool = False
    """Whether it keeps the last message of each key, and takes none without."""


class Letters:
    """Makes records of messages and what became of them."""

    def __init__(self, output: Topic, dead_letter: Topic, input_partitions: int) -> None:
        self._output = output
        self._dead_letter = dead_letter
        # As many partitions: an answer goes where its message came from, and any order is kept. Else the key decides.
        self._same_output = output.partitions == input_partitions
        self._same_dead = dead_letter.partitions == input_partitions

    def record(self, message: Message, outcome: Outcome, version: str) -> tuple[Record, str]:
        """What to write for a message, and the class of the error, empty where it was answered."""
        key = message.key()
        if type(outcome) is bytes and key is None and self._output.compacted:
            outcome = Refusal(
                "KeyMissing",
                f"the message has no key → topic {self._output.name} is compacted and takes none without → send one",
            )
        if type(outcome) is bytes:
            headers = [header for header in _headers(message) if header[0] in PASSED] or None
            if len(outcome) < self._output.max_bytes // 2 or _size(outcome, key, headers) <= self._output.max_bytes:
                partition = _partition(message) if self._same_output else -1
                return Record(self._output.name, outcome, key, headers, partition), ""
            size = _size(outcome, key, headers)
            outcome = Refusal(
                "OutputTooLarge",
                f"the answer has {size} bytes → topic {self._output.name} takes {self._output.max_bytes} → raise its "
                "max.message.bytes, or send less",
            )
        if not isinstance(outcome, Refusal):
            raise TypeError("an outcome is bytes or a refusal")
        return self._dead(message, outcome, version), outcome.error

    def _dead(self, message: Message, refusal: Refusal, version: str) -> Record:
        value, key = message.value(), message.key()
        said = refusal.message
        partition = _partition(message) if self._same_dead else -1
        own = set(DeadLetter)
        headers = [header for header in _headers(message) if header[0] not in own]
        headers = [*headers, *_described(message, refusal.error, said, version)]
        if _size(value, key, headers) > self._dead_letter.max_bytes:
            said = (
                f"{said} (its bytes are left out: topic {self._dead_letter.name} takes {self._dead_letter.max_bytes})"
            )
            value, headers = None, _described(message, refusal.error, said, version)
            if _size(value, key, headers) > self._dead_letter.max_bytes:
                key = None
        return Record(self._dead_letter.name, value, key, headers, partition)


def _headers(message: Message) -> Headers:
    return message.headers() or []  # type: ignore[return-value]  # the stubs know of another form that is never read


def _partition(message: Message) -> int:
    return message.partition()  # type: ignore[return-value]  # a message that was read has one


def _described(message: Message, error: str, said: str, version: str) -> Headers:
    return [
        (DeadLetter.TOPIC.value, str(message.topic()).encode()),
        (DeadLetter.PARTITION.value, str(message.partition()).encode()),
        (DeadLetter.OFFSET.value, str(message.offset()).encode()),
        (DeadLetter.ERROR.value, error.encode()),
        (DeadLetter.MESSAGE.value, said.encode(errors="replace")),
        (DeadLetter.MODEL_VERSION.value, version.encode()),
    ]


def _size(value: bytes | None, key: bytes | None, headers: Headers | None) -> int:
    named = sum(len(name) + len(content or b"") + HEADER_OVERHEAD_BYTES for name, content in headers or ())
    return len(value or b"") + len(key or b"") + named + OVERHEAD_BYTES
