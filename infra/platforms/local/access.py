"""Access on the local platform: its users have passwords, and a workload gets that of the one it needs.

Those of S3 are there already. Kafka's are made with its topics, one for each workload that what makes them `lets`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.access import Granted, Needs
from infra.k8s import workloads
from infra.platforms.local import kafka, kafka_users, object_store
from services.contract import Env

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pulumi

PROPERTIES, USERS = "/kafka", "/kafka-users"
"""Where the Secrets with the properties of Kafka's client, and with Kafka's users, are mounted."""


@dataclass(frozen=True, kw_only=True)
class LocalAccess:
    """Secrets, and nothing else."""

    s3: Mapping[str, pulumi.Output[str]]
    """Secrets of the users of S3."""
    kafka_admin: pulumi.Output[str] | None
    """Secret of Kafka's own user; None where there is no Kafka."""

    def grant(self, account: str, namespace: pulumi.Input[str], needs: Needs, opts: pulumi.ResourceOptions) -> Granted:
        """The secrets of the users that may do what is needed."""
        if needs.zones:
            raise AssertionError(f"{account}: zones without Route 53 are refused with the configuration")
        labels: dict[str, str] = {}
        env: list[dict[str, Any]] = []
        volumes: dict[str, dict[str, Any]] = {}
        mounts: dict[str, str] = {}
        owners = {object_store.OWNERS[place.bucket] for place in (*needs.reads, *needs.writes, *needs.appends)}
        if owners:
            if len(owners) > 1:
                raise AssertionError(f"{account}: one user of S3 for each workload, not {sorted(owners)}")
            labels |= object_store.CLIENT_LABELS
            env += workloads.secret_env(self.s3[owners.pop()], {key: key for key in object_store.CREDENTIAL_KEYS})
        if needs.declares or needs.consumes or needs.produces:
            labels |= kafka.CLIENT_LABELS
            env += workloads.env({Env.KAFKA_PROPERTIES: f"{PROPERTIES}/{kafka.PROPERTIES}"})
            secret = self.kafka_admin if needs.declares else kafka_users.secret_name(account)
            volumes["kafka"] = {"secret": {"secretName": secret}}
            mounts["kafka"] = PROPERTIES
        if needs.declares:
            env += workloads.env({Env.KAFKA_USERS: f"{USERS}/{kafka_users.LIST}"})
            volumes["users"] = {"secret": {"secretName": kafka_users.declare_users(needs.lets, namespace, opts)}}
            mounts["users"] = USERS
        return Granted(labels=labels, env=env, volumes=volumes, mounts=mounts)
