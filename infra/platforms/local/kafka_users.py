"""Users of the local platform's Kafka: one for each workload, with the rights to what it needs there and no others.

They are told to the Job that declares topics, as a Secret with the digest of their rights in its name: where those
change, so does the Job.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pulumi

from infra import names
from infra.access import Needs
from infra.k8s import workloads
from infra.k8s.manifest import declare, name_of
from infra.platforms.local import kafka
from infra.random_secret import RandomSecret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LIST = "users.json"

Right = dict[str, Any]
"""Operations on what has a name, or begins with it: ACLs of Kafka, in its words."""


def user_name(account: str) -> str:
    """The user of a workload: never one of the platform's."""
    return f"workload-{account}"


def secret_name(account: str) -> str:
    """The Secret of a workload's user, in its namespace. It is there once the topics are."""
    return f"{account}-{names.KAFKA}"


def rights(needs: Needs) -> list[Right]:
    """What the needs come to in Kafka: exact topics and groups, transactions whose ids begin with the group."""

    def to(kind: str, those: Iterable[str], *operations: str, pattern: str = "LITERAL") -> list[Right]:
        return [
            {"kind": kind, "name": name, "pattern": pattern, "operations": operations} for name in dict.fromkeys(those)
        ]

    groups = [needs.group] if needs.group else []
    transactions = [f"{group}-" for group in groups if needs.produces]
    return [
        *to("TOPIC", needs.consumes, "READ", "DESCRIBE", "DESCRIBE_CONFIGS"),
        *to("TOPIC", needs.produces, "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS"),
        *to("GROUP", groups, "READ", "DESCRIBE"),
        *to("TRANSACTIONAL_ID", transactions, "WRITE", "DESCRIBE", pattern="PREFIXED"),
        *to("TOPIC", needs.measures.values(), "DESCRIBE"),
        *to("GROUP", needs.measures, "DESCRIBE"),
    ]


def users(clients: Mapping[str, Needs]) -> dict[str, list[Right]]:
    """Rights by user: the workloads' own, and the scaler's look at the lag of each group."""
    lags = [
        right
        for needs in clients.values()
        if needs.group
        for topic in needs.consumes
        for right in rights(Needs(measures={needs.group: topic}))
    ]
    return {kafka.SCALER: lags, **{user_name(account): rights(needs) for account, needs in clients.items()}}


def declare_users(
    clients: Mapping[str, Needs], namespace: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> pulumi.Output[str]:
    """A Secret for each client, and one that the Job makes their users by: its name."""
    passwords: dict[str, Any] = {}
    for account in clients:
        user = user_name(account)
        password = passwords[user] = RandomSecret(secret_name(account), kafka.SECRET_BYTES, opts).result
        manifest = kafka.credentials_manifest(secret_name(account), namespace, user, password)
        declare(secret_name(account), manifest, opts)
    wanted = users(clients)
    name = f"{names.KAFKA}-users-{hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:8]}"
    text = pulumi.Output.from_input(passwords).apply(lambda known: user_list(wanted, known))
    return name_of(declare(f"{names.KAFKA}-users", workloads.secret(name, namespace, {LIST: text}), opts))


def user_list(rights_of: Mapping[str, list[Right]], passwords: Mapping[str, str]) -> str:
    """What the Job reads; who has no password there has one in the broker's configuration."""
    listed = {user: {"password": passwords.get(user), "rights": rights} for user, rights in rights_of.items()}
    return json.dumps(listed, indent=1, sort_keys=True) + "\n"
