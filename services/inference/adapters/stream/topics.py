"""What a worker needs to know of its brokers before it starts: that they let it in, and what the topics are like."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource

from services.inference.adapters.stream.letters import Topic
from services.inference.adapters.stream.output import StreamFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ANSWER_SECONDS = 10.0
"""For brokers that are just starting. Who starts the process again is patient, not the process."""

USUAL_MAX_BYTES = 1_048_588
"""Kafka's own default of a topic's `max.message.bytes`."""

_log = structlog.stdlib.get_logger("slipway.stream")


def look(client: Mapping[str, Any], names: Sequence[str], max_bytes: int | None) -> list[Topic]:
    """The topics, in order; `StreamFailed` where one is missing.

    `max_bytes` is the size of a message at most, where it is less than the topic takes.
    """
    problems: list[KafkaError] = []
    configuration: dict[str, Any] = {**client, "error_cb": problems.append}
    admin = AdminClient(configuration)
    try:
        metadata = admin.list_topics(timeout=ANSWER_SECONDS)
    except KafkaException as error:
        admin.poll(1.0)  # calls back with what the client has to say
        refused = [each for each in problems if each.code() == KafkaError._AUTHENTICATION]  # noqa: SLF001
        cause = refused[0] if refused else error.args[0]
        remedy = "correct the user, its password and the mechanism" if refused else "check the address and the network"
        raise StreamFailed(
            f"brokers {client['bootstrap.servers']}: {cause} → they answer this user → {remedy}"
        ) from error
    found = []
    for name in names:
        topic = metadata.topics.get(name)
        if topic is None or topic.error is not None or not topic.partitions:
            there = ", ".join(sorted(each for each in metadata.topics if not each.startswith("__"))) or "none"
            raise StreamFailed(
                f"topic {name!r}: not there for this user (which sees: {there}) → topics exist before their streams → "
                "declare it in slipway:topics, or give the user its rights"
            )
        taken, compacted = _settings(admin, name)
        found.append(Topic(name, len(topic.partitions), min(max_bytes or sys.maxsize, taken), compacted))
    return found


def keeping(topic: Topic) -> Topic:
    """A topic for dead letters; `StreamFailed` where it would lose some."""
    if topic.compacted:
        raise StreamFailed(
            f"topic {topic.name!r}: compacted → each letter of a key would take the place of the one before → set its "
            "cleanup.policy to delete"
        )
    return topic


def _settings(admin: AdminClient, name: str) -> tuple[int, bool]:
    """Size of a message at most, and whether it is compacted."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    [future] = admin.describe_configs([resource], request_timeout=ANSWER_SECONDS).values()
    try:
        settings = future.result()
        return int(settings["max.message.bytes"].value), "compact" in settings["cleanup.policy"].value
    except KafkaException as error:
        _log.warning("a topic's settings are not known", topic=name, error=str(error), taken=USUAL_MAX_BYTES)
        return USUAL_MAX_BYTES, False
