"""Makes Kafka's topics and users what lists say: `python -m services.inference.topics BOOTSTRAP FILE`.

Every step may run again on what an earlier run left; no topic is ever deleted. How to sign in is said as to the
service.

    1. Topics that are not there are made.
    2. Partitions are added where there are fewer than the list says; where there are more, it ends with an error.
    3. Settings become the list's.
    4. Where `SLIPWAY_KAFKA_USERS` names a file, the users that Kafka keeps are those of the file, with the passwords
       and the rights there. What others have is taken away.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
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
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from services.inference.settings import TopicsSettings

SECONDS = 30.0

SCRAM = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
"""Rounds as Kafka has them at least: they protect words that people think of, and these passwords are none."""

_ANY: Any = None  # which the client's own types do not know
EVERY_RIGHT = AclBindingFilter(
    ResourceType.ANY, _ANY, ResourcePatternType.ANY, _ANY, _ANY, AclOperation.ANY, AclPermissionType.ANY
)


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


def let(admin: AdminClient, users: dict[str, Any]) -> None:
    """Step 4. Rights are given before any is taken away: who keeps one never lacks it."""
    passwords = {user: wanted["password"] for user, wanted in users.items() if wanted["password"] is not None}
    asked: Any = admin.describe_user_scram_credentials(request_timeout=SECONDS)
    known = asked.result(SECONDS)
    alterations = [
        *(UserScramCredentialUpsertion(user, SCRAM, password.encode()) for user, password in passwords.items()),
        *(UserScramCredentialDeletion(user, SCRAM.mechanism) for user in known if user not in passwords),
    ]
    if alterations:
        settled(admin.alter_user_scram_credentials(alterations, request_timeout=SECONDS))
    wanted = {
        AclBinding(
            ResourceType[right["kind"]], right["name"], ResourcePatternType[right["pattern"]],
            f"User:{user}", "*", AclOperation[operation], AclPermissionType.ALLOW,
        )
        for user, told in users.items()
        for right in told["rights"]
        for operation in right["operations"]
    }  # fmt: skip
    there = set(admin.describe_acls(EVERY_RIGHT, request_timeout=SECONDS).result(SECONDS))
    if wanted - there:
        settled(admin.create_acls(list(wanted - there), request_timeout=SECONDS))
    gone = [
        AclBindingFilter(
            right.restype, right.name, right.resource_pattern_type,
            right.principal, right.host, right.operation, right.permission_type,
        )
        for right in there - wanted
    ]  # fmt: skip
    if gone:
        settled(admin.delete_acls(gone, request_timeout=SECONDS))


def main(bootstrap: str, file: str) -> None:
    """The four steps of the module's docstring."""
    topics = json.loads(Path(file).read_text())
    settings = TopicsSettings()
    admin = AdminClient({**settings.kafka(), "bootstrap.servers": bootstrap})
    try:
        declare(admin, topics)
        if settings.kafka_users is not None:
            let(admin, json.loads(settings.kafka_users.read_text()))
    except KafkaException as error:
        raise SystemExit(f"{bootstrap}: {error.args[0]}") from error
    print(f"{len(topics)} topics are as declared")


if __name__ == "__main__":
    main(*sys.argv[1:])
