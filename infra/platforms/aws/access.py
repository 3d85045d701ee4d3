"""Access on AWS: a role for each workload, with exact names, that its service account's pods are and nobody else is.

What a role allows, a network policy lets through; a workload that needs nothing of AWS has neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.access import Granted, Needs
from infra.k8s import network, workloads
from infra.k8s.manifest import declare
from infra.platforms.aws import database, iam, kafka
from infra.platforms.aws.network import HTTPS, ONLY_PUBLIC, blocks
from infra.platforms.aws.resource import AwsResource
from services.contract import Env

if TYPE_CHECKING:
    from infra.access import Place
    from infra.k8s.manifest import Manifest
    from infra.platforms.aws.facts import Facts
    from infra.platforms.aws.iam import Statement

AGENT: Manifest = {"ipBlock": {"cidr": "169.254.170.23/32"}}
AGENT_PORT = 80
"""Where EKS' agent on each node gives a pod the credentials of its role."""


@dataclass(frozen=True)
class AwsAccess:
    """Roles and policies, made from what is known of the platform."""

    facts: Facts

    def grant(self, account: str, namespace: pulumi.Input[str], needs: Needs, opts: pulumi.ResourceOptions) -> Granted:
        """A role, its association with the account, and the ways out that it takes."""
        allowed = statements(self.facts, needs)
        if not allowed:
            return Granted()
        facts = self.facts
        role = iam.role(facts, account, iam.trust(iam.POD_IDENTITY), allowed, opts)
        associated = associate(facts.cluster, namespace, account, role, opts)
        labels = {names.LABEL_IDENTITY: account}
        policy = network.allow(f"{account}-aws", namespace, labels, egress=flows(facts, needs))
        reaching = declare(f"{account}-aws", policy, opts)
        signing = workloads.env({Env.KAFKA_IAM_REGION: facts.region}) if _signs_in_at_kafka(needs) else []
        return Granted(labels=labels, env=signing, after=[associated, reaching])


def associate(
    cluster: pulumi.Input[str],
    namespace: pulumi.Input[str],
    account: str,
    role: AwsResource,
    opts: pulumi.ResourceOptions,
) -> AwsResource:
    """Pods of a service account are that role, and no others are."""
    inputs = {"clusterName": cluster, "namespace": namespace, "serviceAccount": account, "roleArn": role.output("arn")}
    return AwsResource("eks/podIdentityAssociation:PodIdentityAssociation", account, inputs, opts)


def statements(facts: Facts, needs: Needs) -> list[Statement]:
    """What the needs come to in IAM."""
    found: list[Statement] = []
    written = {(place.bucket, place.prefix) for place in needs.writes}
    for place in needs.writes:
        found += _objects(facts, place, write=True)
    for place in needs.reads:
        if (place.bucket, place.prefix) not in written:
            found += _objects(facts, place, write=False)
    for place in needs.appends:
        found += iam.bucket_appends(_bucket(facts, place), facts.bucket_key, place.prefix)
    if _signs_in_at_kafka(needs):
        found += kafka.statements(facts.kafka.apply(lambda it: str((it or {})["arn"])), needs)
    if needs.database:
        user = pulumi.Output.concat(
            "arn:aws:rds-db:", facts.region, ":", facts.account, ":dbuser:",
            facts.database.apply(lambda it: it["id"]), f"/{database.USER}",
        )  # fmt: skip
        found.append(iam.allow(["rds-db:connect"], [user]))
    return found


def flows(facts: Facts, needs: Needs) -> list[Manifest]:
    """Ways out: to the node's agent, and to what the role is for."""
    data = blocks(facts.data_cidrs)
    found = [network.flow("to", [AGENT], [AGENT_PORT])]
    if needs.reads or needs.writes or needs.appends:
        # S3 has public addresses, even where a gateway endpoint leads to it.
        found.append(network.flow("to", [ONLY_PUBLIC], [HTTPS]))
    if _signs_in_at_kafka(needs):
        found.append(network.flow("to", data, [kafka.IAM_PORT]))
    if needs.database:
        found.append(network.flow("to", data, [database.PORT]))
    return found


def _signs_in_at_kafka(needs: Needs) -> bool:
    return bool(needs.consumes or needs.produces or needs.measures or needs.declares)


def _objects(facts: Facts, place: Place, *, write: bool) -> list[Statement]:
    return iam.bucket_access(_bucket(facts, place), facts.bucket_key, place.prefix, write=write)


def _bucket(facts: Facts, place: Place) -> pulumi.Output[str]:
    return facts.buckets.apply(lambda it: f"arn:aws:s3:::{it[place.bucket]}")
