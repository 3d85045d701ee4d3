"""Where answers and dead letters go, and what makes them and the offsets of their messages one.

`ExactlyOnce` writes both in one transaction, fenced by the consumer group's generation (KIP-447): readers with
`isolation.level=read_committed` see each message answered once, whatever is killed when. `AtLeastOnce` commits the
offsets after the broker has the answers.

Errors: `Aborted` where what was begun has to be given up and read again, `StreamFailed` where only a new process helps.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from confluent_kafka import Consumer, TopicPartition

T = TypeVar("T")

CALL_SECONDS = 10.0
"""Of one call to a broker before it is looked at again."""
PATIENCE_SECONDS = 120.0
"""How long a broker may be away in the middle of something: a restart takes a tenth of it."""
BATCH_BYTES = 1_000_000
"""Messages that go to a broker at once; never more than its topic takes, which is asked about the whole batch."""
LINGER_MS = 5
"""How long the client collects them: commits are twenty times as long."""
CLIENT_MAX_BYTES = 64 * 1024 * 1024
"""The client's own limit of a message, out of the way: the topics' are the ones that count."""

OTHER_TOPICS = frozenset({KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC})  # noqa: SLF001
"""Errors of the client where a topic is gone, or has other partitions."""

Headers = list[tuple[str, str | bytes | None]]
"""As the client has them; what it reads has bytes."""

_log = structlog.stdlib.get_logger("slipway.stream")


class StreamFailed(Exception):  # noqa: N818  # it says what happened
    """This process cannot go on; nothing is lost, its successor takes up where the last commit was."""


class Aborted(Exception):  # noqa: N818
    """What was written since the last commit does not count; its messages are read again."""


class Record(NamedTuple):
    """One message to write."""

    topic: str
    value: bytes | None
    key: bytes | None
    headers: Headers | None
    partition: int
    """-1 leaves it to the key."""


class Output(Protocol):
    """`begin`, `send` any number of times, then what `prepare` gives and `conclude`, or `abort`."""

    def open(self) -> None:
        """Take over from an earlier process of the same name; `StreamFailed` where the broker refuses."""

    def begin(self) -> None:
        """What is sent from now on counts together."""

    def send(self, records: Sequence[Record]) -> None:
        """Hand over to the client; waits while too much is under way."""

    def prepare(self, consumer: Consumer, offsets: list[TopicPartition]) -> Callable[[], None]:
        """What makes it count: may run on another thread, while nothing is sent."""

    def conclude(self, consumer: Consumer, offsets: list[TopicPartition]) -> None:
        """What is left to do when that has run, on the consumer's own thread."""

    def abort(self) -> None:
        """Give it up."""


class _Producing:
    """What both have in common: a producer that keeps the order and tells of failures."""

    def __init__(self, client: Mapping[str, Any], batch_bytes: int, **own: Any) -> None:
        self._failure = ""
        self._producer = Producer(
            {
                "compression.type": "lz4",
                "linger.ms": LINGER_MS,
                "batch.size": min(BATCH_BYTES, batch_bytes),
                "message.max.bytes": CLIENT_MAX_BYTES,
                "partitioner": "murmur2_random",
                **client,
                "enable.idempotence": True,
                "delivery.report.only.error": True,
                "on_delivery": self._delivered,
                **own,
            }
        )

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is not None and not self._failure:
            self._failure = str(error)

    def send(self, records: Sequence[Record]) -> None:
        """Hand over to the client; waits while its queue is full."""
        produce, poll = self._producer.produce, self._producer.poll
        deadline = time.monotonic() + PATIENCE_SECONDS
        for record in records:
            topic, value, key, headers, partition = record
            while True:
                try:
                    produce(topic, value, key, partition, headers=headers)
                    break
                except BufferError:  # full: the broker is slower than the model, and sets the pace
                    if time.monotonic() > deadline:
                        raise StreamFailed(f"the broker takes nothing: {self._failure or 'no answer'}") from None
                    poll(0.1)
                except KafkaException as error:
                    if error.args[0].code() in OTHER_TOPICS:
                        raise StreamFailed(
                            f"topic {topic}: {error.args[0]} → topics are as they were when the worker started → a new "
                            "one looks again"
                        ) from error
                    raise Aborted(str(error)) from error
        poll(0)


class ExactlyOnce(_Producing):
    """Answers, dead letters and offsets in one transaction."""

    def __init__(self, client: Mapping[str, Any], batch_bytes: int, transactional_id: str) -> None:
        super().__init__(client, batch_bytes, **{"transactional.id": transactional_id})

    def open(self) -> None:
        """End what an earlier producer of this name left open, and fence it."""
        _insist(lambda: self._producer.init_transactions(CALL_SECONDS), "the transaction's coordinator")

    def begin(self) -> None:
        """Begin a transaction; the broker hears of it with the first message."""
        self._failure = ""
        try:
            self._producer.begin_transaction()
        except KafkaException as error:
            raise StreamFailed(str(error.args[0])) from error

    def prepare(self, consumer: Consumer, offsets: list[TopicPartition]) -> Callable[[], None]:
        """Offsets into the transaction, then its end.

        1. The group's metadata is read now. If another worker may own the partitions already, its generation is an
           old one and the broker refuses the offsets. A worker that has left the group has no generation, which the
           broker would let pass: it is known by its lack of a member id. It cannot rejoin between the two calls, that
           takes a call to `consume` on this thread.
        2. The offsets join the transaction.
        3. The client's queue is flushed and the transaction ends; a failed delivery fails it.
        """
        metadata = consumer.consumer_group_metadata()  # 1
        if not consumer.memberid():
            raise Aborted("this worker has left its group")

        def commit() -> None:
            send = self._producer.send_offsets_to_transaction
            _insist(lambda: send(offsets, metadata, CALL_SECONDS), "the group's offsets")  # 2
            _insist(lambda: self._producer.commit_transaction(CALL_SECONDS), "the transaction")  # 3

        return commit

    def conclude(self, consumer: Consumer, offsets: list[TopicPartition]) -> None:
        """Nothing: the offsets are in the transaction."""

    def abort(self) -> None:
        """The broker marks all of it as never to be read."""
        try:
            _insist(lambda: self._producer.abort_transaction(CALL_SECONDS), "the end of a transaction")
        except Aborted as error:
            raise StreamFailed(f"the transaction cannot be ended: {error}") from error


class AtLeastOnce(_Producing):
    """Answers first, offsets when the broker has them."""

    def open(self) -> None:
        """Nothing is left of an earlier process."""

    def begin(self) -> None:
        """Forget an old failure."""
        self._failure = ""

    def prepare(self, consumer: Consumer, offsets: list[TopicPartition]) -> Callable[[], None]:  # noqa: ARG002
        """Wait for every answer to be written."""
        return self._flush

    def _flush(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._producer.flush(CALL_SECONDS):
            if time.monotonic() > deadline:
                raise StreamFailed("the broker takes no messages")
        if self._failure:
            raise Aborted(self._failure)

    def conclude(self, consumer: Consumer, offsets: list[TopicPartition]) -> None:
        """Commit the offsets.

        The client lets one thread at a time use a consumer: another one would wait for a gap between two calls of
        `consume`, minutes where they follow each other, and for ever inside a rebalance.
        """
        _insist(lambda: consumer.commit(offsets=offsets, asynchronous=False), "the group's offsets")

    def abort(self) -> None:
        """Drop what has not gone out; what has is answered twice."""
        self._producer.purge()
        self._producer.flush(CALL_SECONDS)


def _insist(call: Callable[[], T], what: str) -> T:
    """Call again while the client says that it may help; the broker may be starting."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return call()
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            if cause.fatal():
                raise StreamFailed(f"{what}: {cause}") from error
            if not cause.retriable() or cause.txn_requires_abort():
                raise Aborted(f"{what}: {cause}") from error
            if time.monotonic() > deadline:
                raise StreamFailed(f"{what}: {cause}, for {PATIENCE_SECONDS:.0f} s") from error
            _log.info("the broker is asked again", what=what, error=str(cause))
