"""Dead letters back to where they came from: each once, however often it is tried and whenever it is killed.

1. A letter is read by a consumer group of its own, whose offsets say which have been sent back.
2. It is written to its source topic with its own key, value and headers, without those that made it a dead letter.
3. The group's offsets are committed in the transaction that writes it.

A letter that the filter leaves out counts as seen: it stays in its topic, and a group of another name sees it again.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from services.contract import DeadLetter
from tools.kafka.reading import CALL_SECONDS, consumer_of, partitions_of
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from confluent_kafka import Consumer

LETTERS_AT_ONCE = 500
"""Of a transaction."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What is asked for."""

    topic: str
    group: str
    errors: frozenset[str] = frozenset()
    """Classes of errors; all where empty."""
    limit: int | None = None
    dry_run: bool = False


@dataclass(kw_only=True)
class Replayed:
    """What came of it."""

    sent: Counter[str] = field(default_factory=Counter)
    """By source topic."""
    left_out: Counter[str] = field(default_factory=Counter)
    """By class of error: not asked for, or without the original bytes; or by the topic that is not there any more."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Says which letters go back."""

    errors: frozenset[str]
    topics: frozenset[str]
    """Those that are there."""

    def source(self, letter: Message, found: Replayed) -> str | None:
        """The topic that a letter goes back to; None where it stays."""
        headers = dict(_named(letter))
        error = (headers.get(DeadLetter.ERROR) or b"").decode(errors="replace")
        source = (headers.get(DeadLetter.TOPIC) or b"").decode(errors="replace")
        without = letter.value() is None and error != "Tombstone"
        if not source or (self.errors and error not in self.errors) or without:
            found.left_out[error or "no dead letter"] += 1
            return None
        if source not in self.topics:
            found.left_out[f"topic {source} is not there for this user"] += 1
            return None
        found.sent[source] += 1
        return source


def replay(client: Mapping[str, Any], asked: Replay, say: Callable[[str], None]) -> Replayed:
    """Send them back. Raises `StepError`; what was committed by then is sent, the rest is not."""
    consumer = consumer_of(client, asked.group, {"auto.offset.reset": "earliest", "enable.partition.eof": True})
    try:
        partitions = _begin(consumer, asked.topic)
        judge = Judge(errors=asked.errors, topics=frozenset(consumer.list_topics(timeout=CALL_SECONDS).topics))
        if asked.dry_run:
            return _look(consumer, asked, judge, partitions)
        producer = Producer({**client, "transactional.id": f"{asked.group}-replay"})
        producer.init_transactions(CALL_SECONDS)
        return _send(consumer, producer, asked, judge, partitions, say)
    except KafkaException as error:
        remedy = "check brokers, topic and rights; the same command goes on"
        raise StepError(f"{asked.topic}: {error.args[0]} → it is read and sent back → {remedy}") from error
    finally:
        consumer.close()


def _begin(consumer: Consumer, topic: str) -> set[int]:
    """Go to the first letter that was not sent back yet; the result are the topic's partitions."""
    places = [TopicPartition(topic, partition) for partition in partitions_of(consumer, topic)]
    # Assigned and not subscribed: one replay at a time, the transaction's name sees to that.
    begun = consumer.committed(places, CALL_SECONDS)
    consumer.assign([TopicPartition(topic, each.partition, max(each.offset, 0)) for each in begun])
    return {place.partition for place in places}


def _letters(consumer: Consumer, partitions: set[int]) -> Iterator[list[Message]]:
    """Batches, until each partition has been read to its end once."""
    left = set(partitions)
    deadline = time.monotonic() + CALL_SECONDS
    while left:
        letters = []
        for each in consumer.consume(LETTERS_AT_ONCE, 1.0):
            deadline = time.monotonic() + CALL_SECONDS
            error = each.error()
            if error is None:
                letters.append(each)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # the client's name for it
                left.discard(each.partition() or 0)
            else:
                raise KafkaException(error)
        if letters:
            yield letters
        elif time.monotonic() > deadline:
            raise StepError("the brokers say nothing → they answer → check --brokers; the same command goes on")


def _look(consumer: Consumer, asked: Replay, judge: Judge, partitions: set[int]) -> Replayed:
    found = Replayed()
    for letters in _letters(consumer, partitions):
        for letter in letters:
            if asked.limit is not None and found.sent.total() >= asked.limit:
                return found
            judge.source(letter, found)
    return found


def _send(
    consumer: Consumer,
    producer: Producer,
    asked: Replay,
    judge: Judge,
    partitions: set[int],
    say: Callable[[str], None],
) -> Replayed:
    found = Replayed()
    for letters in _letters(consumer, partitions):
        producer.begin_transaction()
        places: dict[int, int] = {}
        for letter in letters:
            if asked.limit is not None and found.sent.total() >= asked.limit:
                break
            source = judge.source(letter, found)
            if source is not None:
                producer.produce(source, letter.value(), letter.key(), headers=_original(letter))
            places[letter.partition() or 0] = (letter.offset() or 0) + 1
        offsets = [TopicPartition(asked.topic, partition, offset) for partition, offset in places.items()]
        if offsets:
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), CALL_SECONDS)
            producer.commit_transaction(CALL_SECONDS)
            say(f"{found.sent.total()} sent back")
        else:
            producer.abort_transaction(CALL_SECONDS)
        if asked.limit is not None and found.sent.total() >= asked.limit:
            break
    return found


def _original(letter: Message) -> list[tuple[str, str | bytes | None]]:
    own = set(DeadLetter)
    return [(name, content) for name, content in _named(letter) if name not in own]


def _named(letter: Message) -> list[tuple[str, bytes | None]]:
    return letter.headers() or []  # type: ignore[return-value]  # the stubs know of a form that is never read
