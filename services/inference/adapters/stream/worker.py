"""One worker of a stream: messages in, answers and dead letters out.

    while not told to stop:
        1. consume   a micro-batch; what may belong to another worker by now is dropped
        2. score     decode and predict all at once; rows that fail are found one by one
        3. send      answers and dead letters, in an open transaction
        4. commit    once it is old enough: the messages' offsets with it

The broker takes its time for a commit: 1 and 2 go on meanwhile, and what they make is held for the next transaction.
Everything else happens on one thread, the callbacks of a rebalance too: inside `consume`. A partition that is to be
given up is committed first. One that was lost, to a pause longer than the session, is aborted: whoever has it now
starts from the last commit. After an abort the messages since the last commit are read again, from where the broker
says that is.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from services.inference.adapters.stream.output import CALL_SECONDS, PATIENCE_SECONDS, Aborted, StreamFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.inference.adapters.stream.letters import Letters
    from services.inference.adapters.stream.metrics import StreamMetrics
    from services.inference.adapters.stream.output import Output, Record
    from services.inference.adapters.stream.pace import Pace
    from services.inference.adapters.stream.scoring import Outcome, Scorer

IDLE_SECONDS = 0.5
"""How long a worker without messages waits before it looks whether it is to stop."""
MOST_HELD = 32
"""Micro-batches that are held while the broker commits: it is slower than the model then, and sets the pace."""
MOST_ABORTS = 20
"""In a row, without a commit: what fails so often fails for a reason that reading again does not mend."""
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.05, 5.0

CONSUMER: Mapping[str, Any] = {
    "partition.assignment.strategy": "cooperative-sticky",
    # A dead worker's partitions wait for so long; the client's own 45 s are for slow garbage collectors.
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 1_000,
    "fetch.wait.max.ms": 50,
    "auto.offset.reset": "earliest",
}
"""What the consumer is told unless the properties say something else."""

GUARANTEED: Mapping[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # Aborted inputs are not scored; and a new owner of a partition waits for the commit that is still under way.
    "isolation.level": "read_committed",
}
"""What no property may change."""

_log = structlog.stdlib.get_logger("slipway.stream")


class Source(NamedTuple):
    """Where messages come from."""

    client: Mapping[str, Any]
    """Properties of the consumer, its group among them."""
    topic: str


class Batch(NamedTuple):
    """A micro-batch, scored."""

    messages: Sequence[Message]
    outcomes: Sequence[Outcome]
    version: str
    """Of the model that has scored it."""


@dataclass(slots=True)
class Transaction:
    """What was sent and does not count yet."""

    since: float
    positions: dict[int, int] = field(default_factory=dict)
    """By partition, the offset after its last message."""
    errors: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    oldest_ms: int = 0
    """Timestamp of the oldest of the messages that came first in their micro-batches; 0 where they have none."""


class Models(Protocol):
    """Who answers."""

    def current(self) -> Scorer:
        """The model to use from now on; asked between two transactions only."""


class Worker:
    """Runs until `stop`. The caller owns the thread."""

    def __init__(
        self,
        source: Source,
        models: Models,
        output: Output,
        letters: Letters,
        metrics: StreamMetrics,
        *,
        pace: Pace,
    ) -> None:
        self._consumer = Consumer({**CONSUMER, **source.client, **GUARANTEED})
        self._topic = source.topic
        self._models = models
        self._output = output
        self._letters = letters
        self._metrics = metrics
        self._pace = pace
        self._stopping = threading.Event()
        self._scorer = models.current()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")
        self._open: Transaction | None = None
        """What was sent and is not being committed yet."""
        self._committing: tuple[Future[None], Transaction, float] | None = None
        """What is being committed, since when."""
        self._held: list[Batch] = []
        """What was scored meanwhile."""
        self._aborts = 0
        self._taken = False
        """Partitions went away during the last `consume`."""
        self.beat = time.monotonic()
        """When the loop last came round: a worker that hangs is known by it."""

    def stop(self) -> None:
        """Finish what is begun and leave; from any thread, any number of times."""
        self._stopping.set()

    def run(self) -> None:
        """Work until told to stop. `StreamFailed` says why a new process is needed."""
        self._output.open()
        self._consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        try:
            while not self._stopping.is_set():
                self._step()
            self._finish()
        finally:
            self._open, self._committing = None, None  # where it failed: nothing is committed on the way out
            self._consumer.close()
            self._thread.shutdown()

    def _step(self) -> None:
        self.beat = time.monotonic()
        messages = self._consume()  # 1
        if messages:
            self._held.append(self._score(messages))  # 2
        try:
            if self._committing is not None and (self._committing[0].done() or len(self._held) >= MOST_HELD):
                self._settle()
            if self._committing is None:
                self._send()  # 3
                if self._open is not None and time.monotonic() - self._open.since >= self._pace.commit_seconds:
                    self._commit()  # 4
        except Aborted as error:
            self._abort(error)

    def _finish(self) -> None:
        """Answer and commit all that was consumed."""
        try:
            self._settle()
            self._send()
            if self._open is not None:
                self._commit()
            self._settle()
        except Aborted as error:
            self._drop(error)

    def _consume(self) -> list[Message]:
        """A micro-batch: at once what is there, else what comes within its time."""
        self._taken = False
        first = None
        wait = self._pace.batch_seconds
        if self._open is not None:
            left = self._open.since + self._pace.commit_seconds - time.monotonic()
            wait = min(wait, max(left, 0.0))
        elif self._committing is None:
            first = self._consumer.poll(IDLE_SECONDS)
            if first is None and not self._taken:
                return []
        found = self._consumer.consume(self._pace.rows, wait)
        if first is not None:
            found.insert(0, first)
        if self._taken:
            # Among them, and among what is held, may be messages of partitions that are another's now, or were.
            self._held.clear()
            self._rewind()
            return []
        for at, message in enumerate(found):
            if message.error() is not None:
                return self._without_events(found, at)
        return found

    def _without_events(self, found: Sequence[Message], first: int) -> list[Message]:
        """The client's events come among the messages."""
        messages = list(found[:first])
        for each in found[first:]:
            error = each.error()
            if error is None:
                messages.append(each)
            elif error.fatal():
                raise StreamFailed(str(error))
            else:
                _log.warning("the consumer reports", error=str(error))
        return messages

    def _score(self, messages: Sequence[Message]) -> Batch:
        scorer = self._models.current() if self._open is None and not self._held else self._scorer
        self._scorer = scorer
        started = time.perf_counter()
        outcomes = scorer.score([message.value() for message in messages])
        self._pace.took(len(messages), time.perf_counter() - started)
        return Batch(messages, outcomes, scorer.pipeline.info.version)

    def _send(self) -> None:
        """What is held, in a transaction."""
        if not self._held:
            return
        if self._open is None:
            self._output.begin()
            self._open = Transaction(time.monotonic())
        for batch in self._held:
            self._output.send(self._records(batch, self._open))
        self._held.clear()

    def _records(self, batch: Batch, into: Transaction) -> list[Record]:
        make, positions, version = self._letters.record, into.positions, batch.version
        records = []
        for message, outcome in zip(batch.messages, batch.outcomes, strict=True):
            record, error = make(message, outcome, version)
            records.append(record)
            if error:
                into.errors[error] += 1
            positions[message.partition()] = message.offset() + 1  # type: ignore[index, operator]  # no event
        into.sent += len(records)
        created = batch.messages[0].timestamp()[1]
        if created > 0 and (not into.oldest_ms or created < into.oldest_ms):
            into.oldest_ms = created
        return records

    def _commit(self) -> None:
        """Begin to commit what is open."""
        if self._open is None:
            return
        commit = self._output.prepare(self._consumer, self._offsets(self._open))
        self._committing = self._thread.submit(commit), self._open, time.perf_counter()
        self._open = None

    def _offsets(self, of: Transaction) -> list[TopicPartition]:
        return [TopicPartition(self._topic, place, offset) for place, offset in of.positions.items()]

    def _settle(self) -> None:
        """Wait for the commit that is under way; `Aborted` where it failed."""
        if self._committing is None:
            return
        future, done, started = self._committing
        self._committing = None
        future.result()
        self._output.conclude(self._consumer, self._offsets(done))
        self._aborts = 0
        delay = time.time() - done.oldest_ms / 1e3 if done.oldest_ms else None
        self._metrics.committed(done.sent, done.errors, time.perf_counter() - started, delay)
        for partition, position in done.positions.items():
            self._tell_lag(partition, position)

    def _abort(self, error: Aborted) -> None:
        """Give up what is open and read it again."""
        self._drop(error)
        self._rewind()
        self._aborts += 1
        if self._aborts > MOST_ABORTS:
            raise StreamFailed(f"{MOST_ABORTS} transactions in a row were given up, the last for: {error}")
        self._stopping.wait(min(FIRST_PAUSE_SECONDS * 2 ** (self._aborts - 1), LAST_PAUSE_SECONDS))

    def _drop(self, why: object) -> None:
        _log.warning("transaction given up, its messages are read again", error=str(why))
        self._output.abort()
        self._metrics.aborted()
        self._open = None
        self._held.clear()

    def _rewind(self) -> None:
        """Go back to where the broker says that the last commit was."""
        assigned = self._consumer.assignment()
        if not assigned:
            return
        for place in self._committed(assigned):
            offset = place.offset if place.offset >= 0 else OFFSET_BEGINNING
            try:
                self._consumer.seek(TopicPartition(place.topic, place.partition, offset))
            except KafkaException as error:
                if error.args[0].code() != KafkaError._STATE:  # noqa: SLF001  # the client's name for its own errors
                    raise StreamFailed(f"going back to offset {offset}: {error.args[0]}") from error
                # It was assigned just now, nothing of it was read, and it will start from there anyway.

    def _committed(self, assigned: list[TopicPartition]) -> list[TopicPartition]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                found = self._consumer.committed(assigned, timeout=CALL_SECONDS)
                if all(place.error is None for place in found):
                    return found
                reason = next(str(place.error) for place in found if place.error is not None)
            except KafkaException as error:
                reason = str(error.args[0])
            if time.monotonic() > deadline:
                raise StreamFailed(f"the group's offsets: {reason}, for {PATIENCE_SECONDS:.0f} s")

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        _log.info("partitions assigned", partitions=[place.partition for place in partitions])

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """Called inside `consume`, before the partitions go: commit what was done of them."""
        self._taken = True
        try:
            self._settle()
            self._commit()
            self._settle()
        except Aborted as error:  # the partitions that stay are gone back for after this call
            self._drop(error)
        self._gone(partitions, "partitions given up")

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """Called inside `consume`: they are another's already."""
        self._taken = True
        try:
            self._settle()
            if self._open is not None:
                self._drop("its partitions were lost to another worker")
        except Aborted as error:
            self._drop(error)
        self._gone(partitions, "partitions lost")

    def _gone(self, partitions: Sequence[TopicPartition], what: str) -> None:
        numbers = [place.partition for place in partitions]
        _log.info(what, partitions=numbers)
        self._metrics.forget_lag(numbers)

    def _tell_lag(self, partition: int, position: int) -> None:
        low_high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
        if low_high is not None and low_high[1] >= 0:
            self._metrics.lag(partition, max(0, low_high[1] - position))
