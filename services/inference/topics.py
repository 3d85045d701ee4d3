"""Makes Kafka's topics and rights what a list says: `python -m services.inference.topics BOOTSTRAP FILE`.

Every step may run again on what an earlier run left; nothing is ever deleted. How to sign in is said as to the service.

    1. Topics that are not there are made.
    2. Partitions are added where there are fewer than the list says; where there are more, it ends with an error.
    3. Settings become the list's.
    4. Where the list names a user, it gets the rights of each stream: read its input and group, write its output and
       dead letters, use transactions of its name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from services.inference.settings import KafkaSettings

SECONDS = 30.0


def settled(futures: dict[Any, Any]) -> None:
    """Wait for every result; the first error ends the process with what failed."""
    for subject, future in futures.items():
        try:
            future.result(SECONDS)
        except KafkaException as error:
            raise SystemExit(f"{subject}: {error.args[0]}") from error


def declare(admin: AdminClient, topics: dict[str, Any]) -> None:
    """Steps 1 to 3."""
    there = admin.list_topics(timeout=SECONDS).topics
    # 1
    new = [
        NewTopic(name, wanted["partitions"], wanted["replication"])
        for name, wanted in topics.items()
        if name not in there
    ]
    if new:
        settled(admin.create_topics(new, request_timeout=SECONDS))
    # 2
    more = []
    for name, wanted in topics.items():
        count = len(there[name].partitions) if name in there else wanted["partitions"]
        if count > wanted["partitions"]:
            raise SystemExit(
                f"topic {name}: {count} partitions → Kafka takes none away → set partitions to {count} in the stack"
            )
        if count < wanted["partitions"]:
            more.append(NewPartitions(name, wanted["partitions"]))
    if more:
        settled(admin.create_partitions(more, request_timeout=SECONDS))
    # 3
    settings = [
        ConfigResource(
            ConfigResource.Type.TOPIC,
            name,
            incremental_configs=[
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                for key, value in wanted["config"].items()
            ],
        )
        for name, wanted in topics.items()
    ]
    if settings:
        settled(admin.incremental_alter_configs(settings, request_timeout=SECONDS))


def allow(admin: AdminClient, user: str, streams: dict[str, Any], logs: list[str]) -> None:
    """Step 4."""
    rights: list[AclBinding] = []

    def give(kind: ResourceType, name: str, pattern: ResourcePatternType, *operations: AclOperation) -> None:
        rights.extend(
            AclBinding(kind, name, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW)
            for operation in operations
        )

    exactly, prefixed = ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
    for stream in streams.values():
        group = stream["group"]
        give(ResourceType.TOPIC, stream["read"], exactly, AclOperation.READ, AclOperation.DESCRIBE)
        for topic in stream["write"]:
            give(
                ResourceType.TOPIC, topic, exactly,
                AclOperation.WRITE, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS,
            )  # fmt: skip
        give(ResourceType.TOPIC, stream["read"], exactly, AclOperation.DESCRIBE_CONFIGS)
        give(ResourceType.GROUP, group, exactly, AclOperation.READ, AclOperation.DESCRIBE)
        give(ResourceType.TRANSACTIONAL_ID, f"{group}-", prefixed, AclOperation.WRITE, AclOperation.DESCRIBE)
    for topic in logs:
        give(ResourceType.TOPIC, topic, exactly, AclOperation.WRITE, AclOperation.DESCRIBE)
    if rights:
        settled(admin.create_acls(rights, request_timeout=SECONDS))


def main(bootstrap: str, file: str) -> None:
    """The four steps of the module's docstring."""
    wanted = json.loads(Path(file).read_text())
    admin = AdminClient({**KafkaSettings().kafka(), "bootstrap.servers": bootstrap})
    try:
        declare(admin, wanted["topics"])
        if wanted["user"]:
            allow(admin, wanted["user"], wanted["streams"], wanted["logs"])
    except KafkaException as error:
        raise SystemExit(f"{bootstrap}: {error.args[0]}") from error
    print(f"{len(wanted['topics'])} topics are as declared")


if __name__ == "__main__":
    main(*sys.argv[1:])
