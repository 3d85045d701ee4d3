"""How commands read topics: with a group's name, and an error that says what to correct."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaException

from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Mapping

CALL_SECONDS = 30.0


def consumer_of(client: Mapping[str, Any], group: str, own: Mapping[str, Any] | None = None) -> Consumer:
    """A consumer that commits when it is told to. Raises `StepError` where librdkafka does not take its properties."""
    given = {"group.id": group, "enable.auto.commit": False, "isolation.level": "read_committed", **(own or {})}
    try:
        return Consumer({**client, **given})
    except KafkaException as error:
        said = error.args[0].str()
        raise StepError(f"properties: {said} → librdkafka takes them → correct --properties") from error


def partitions_of(consumer: Consumer, topic: str) -> list[int]:
    """A topic's partitions, in order. Raises `StepError` where it is not there, `KafkaException` without brokers."""
    found = consumer.list_topics(topic, CALL_SECONDS).topics[topic]
    if found.error is not None:
        raise StepError(f"{topic}: {found.error} → a topic that is there → correct the name")
    return sorted(found.partitions)
