"""All that there is to know of an AWS platform to build on it, and what every platform provides, made from that alone.

Plain values: a stack exports them, and another one that reads them has the same platform.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import pulumi

from infra.k8s.manifest import provider_version as kubernetes_provider_version
from infra.outputs import (
    Bucket,
    Exposure,
    GpuMetrics,
    Kafka,
    KafkaScaler,
    MlflowDatabase,
    Namespaces,
    PlatformOutputs,
)
from infra.platforms.aws import database, nvidia
from infra.platforms.aws.access import AwsAccess
from infra.platforms.aws.gateway import NODE_PORT
from infra.platforms.aws.kafka import IAM_PORT
from infra.platforms.aws.network import blocks
from infra.platforms.aws.resource import provider_version as aws_provider_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.access import BucketRole
    from infra.config.aws import AwsPlatformConfig
    from infra.config.platform import ReferencePlatformConfig


OFFERS = ("url", "internal", "brokers", "gpus")
"""What previews have to know of a platform before they can ask: a configuration that refers to it says it, too."""


OPTIONAL = frozenset({"boundary", "gpus_namespace", "kafka"})
"""Facts that may be None."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One Output each."""

    prefix: pulumi.Output[str]
    """Begins every name."""
    account: pulumi.Output[str]
    region: pulumi.Output[str]
    tags: pulumi.Output[dict[str, str]]
    """On everything."""
    boundary: pulumi.Output[str | None]
    """IAM policy that bounds every role."""
    cluster: pulumi.Output[str]
    kubeconfig: pulumi.Output[str]
    """How Pulumi reaches the cluster, once it can; without a secret."""
    platform_namespace: pulumi.Output[str]
    models_namespace: pulumi.Output[str]
    gpus_namespace: pulumi.Output[str | None]
    """Of what tells of GPUs; None where there are none."""
    buckets: pulumi.Output[dict[str, str]]
    """Names by what they are for."""
    bucket_key: pulumi.Output[str]
    """ARN of the key that encrypts them."""
    kafka: pulumi.Output[dict[str, Any] | None]
    """`arn` and `bootstrap`; None where there is none."""
    database: pulumi.Output[dict[str, str]]
    """`address`, and `id` by which IAM knows it; who signs in finds its user there."""
    data_cidrs: pulumi.Output[list[str]]
    """Where databases and brokers have their addresses."""
    offers: pulumi.Output[dict[str, Any]]
    """`OFFERS` by name."""

    def exported(self) -> dict[str, pulumi.Output[Any]]:
        """For another stack."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def read(cls, exported: pulumi.Output[dict[str, Any]]) -> Facts:
        """What another stack has exported. The engine leaves out what is None; anything else that is missing raises."""

        def fact(name: str) -> pulumi.Output[Any]:
            return exported.apply(lambda it: it.get(name) if name in OPTIONAL else it[name])

        return cls(**{each.name: fact(each.name) for each in fields(cls)})


def aws_provider(
    account: pulumi.Input[str], region: pulumi.Input[str], tags: pulumi.Input[dict[str, str]], name: str = "aws"
) -> pulumi.ProviderResource:
    """AWS in the region, and in no other account: credentials of another one are refused before anything is made."""
    inputs = {
        "region": region,
        # The provider's inputs are text, whatever they are.
        "allowedAccountIds": pulumi.Output.json_dumps([account]),
        "defaultTags": pulumi.Output.json_dumps({"tags": tags}),
    }
    return pulumi.ProviderResource("aws", name, inputs, pulumi.ResourceOptions(version=aws_provider_version()))


def kubernetes_provider(
    kubeconfig: pulumi.Input[str], opts: pulumi.ResourceOptions | None = None, name: str = "eks"
) -> pulumi.ProviderResource:
    """Kubernetes in that cluster, whatever kubeconfig the machine has."""
    pinned = pulumi.ResourceOptions(version=kubernetes_provider_version())
    options = pulumi.ResourceOptions.merge(opts, pinned)
    return pulumi.ProviderResource("kubernetes", name, {"kubeconfig": kubeconfig}, options)


def platform_outputs(
    facts: Facts, said: AwsPlatformConfig | ReferencePlatformConfig, providers: Sequence[pulumi.ProviderResource]
) -> PlatformOutputs:
    """What every platform provides. What there is of it `said` says, before anything is known."""

    def bucket(role: BucketRole) -> Bucket:
        return Bucket(name=facts.buckets.apply(lambda it: it[role]), endpoint=None, region=facts.region)

    return PlatformOutputs(
        namespaces=Namespaces(platform=facts.platform_namespace, models=facts.models_namespace),
        models_bucket=bucket("models"),
        features_bucket=bucket("features"),
        predictions_bucket=bucket("predictions"),
        mlflow_database=MlflowDatabase(uri=facts.database.apply(lambda it: database.uri(it["address"])), claim=None),
        exposure=Exposure(node_port=NODE_PORT, url=said.url, internal=said.internal),
        access=AwsAccess(facts),
        kafka=_kafka(facts) if said.brokers else None,
        gpu_metrics=_gpu_metrics(facts) if said.gpus else None,
        providers=providers,
    )


def _gpu_metrics(facts: Facts) -> GpuMetrics:
    return GpuMetrics(namespace=facts.gpus_namespace.apply(str), port=nvidia.METRICS_PORT)


def _kafka(facts: Facts) -> Kafka:
    return Kafka(
        bootstrap=facts.kafka.apply(lambda it: str((it or {})["bootstrap"])),
        port=IAM_PORT,
        peers=blocks(facts.data_cidrs),
        scaler=KafkaScaler(
            settings={
                "tls": "enable",
                "sasl": "oauthbearer",
                "saslTokenProvider": "aws_msk_iam",
                "awsRegion": facts.region,
            },
            identity="aws",
        ),
    )
