"""Access on the local platform: its users have passwords, and a workload gets that of the one it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.access import Granted, Needs
from infra.k8s import workloads
from infra.platforms.local import kafka, object_store
from services.contract import Env

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pulumi

PROPERTIES = "/kafka"
"""Where the Secret with the properties of Kafka's client is mounted."""


@dataclass(frozen=True, kw_only=True)
class LocalAccess:
    """Secrets that are there already: nothing is declared for a workload."""

    s3: Mapping[str, pulumi.Output[str]]
    """Secrets of the users of S3."""
    kafka: Mapping[str, pulumi.Output[str]]
    """Secrets of the users of Kafka; empty where there is none."""

    def grant(
        self,
        account: str,
        namespace: pulumi.Input[str],  # noqa: ARG002 (each secret is where its client runs)
        needs: Needs,
        opts: pulumi.ResourceOptions,  # noqa: ARG002
    ) -> Granted:
        """The secrets of the users that may do what is needed."""
        labels: dict[str, str] = {}
        env: list[dict[str, Any]] = []
        volumes, mounts = {}, {}
        owners = {object_store.OWNERS[place.bucket] for place in (*needs.reads, *needs.writes, *needs.appends)}
        if owners:
            if len(owners) > 1:
                raise AssertionError(f"{account}: one user of S3 for each workload, not {sorted(owners)}")
            labels |= object_store.CLIENT_LABELS
            env += workloads.secret_env(self.s3[owners.pop()], {key: key for key in object_store.CREDENTIAL_KEYS})
        if needs.declares or needs.consumes or needs.produces:
            labels |= kafka.CLIENT_LABELS
            env += workloads.env({Env.KAFKA_PROPERTIES: f"{PROPERTIES}/client.properties"})
            user = kafka.ADMIN if needs.declares else kafka.CLIENT
            volumes["kafka"] = {"secret": {"secretName": self.kafka[user]}}
            mounts["kafka"] = PROPERTIES
        return Granted(labels=labels, env=env, volumes=volumes, mounts=mounts)
