"""MSK: Kafka whose clients are IAM roles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi

from infra.config.aws import ProvisionedKafkaConfig
from infra.platforms.aws import iam, keys, network
from infra.platforms.aws.resource import AwsResource, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from infra.access import Needs
    from infra.config.aws import AwsKafkaConfig
    from infra.platforms.aws.iam import Statement
    from infra.platforms.aws.network import Network

IAM_PORT = 9098
"""Brokers listen there for clients that sign by IAM; MSK has no other choice."""

CONNECT = ("Connect", "DescribeCluster")
MAKE_TOPICS = (
    "CreateTopic",
    "DescribeTopic",
    "AlterTopic",
    "DescribeTopicDynamicConfiguration",
    "AlterTopicDynamicConfiguration",
)

SERVER_PROPERTIES: Mapping[str, str] = {
    # Topics are declared in the stack: a name with a mistake in it must not become one.
    "auto.create.topics.enable": "false",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "transaction.state.log.min.isr": "2",
    "unclean.leader.election.enable": "false",
}

LOG_DAYS = 30


@dataclass(frozen=True, kw_only=True)
class KafkaArgs:
    """What Kafka is made from."""

    scope: Scope
    config: AwsKafkaConfig
    network: Network
    clients: pulumi.Input[str]
    """Security group of those who may connect: the cluster's."""
    log_key: AwsResource


class Kafka(pulumi.ComponentResource):
    """A cluster in the data subnets: TLS only, clients by IAM only, encrypted by a key of its own."""

    arn: pulumi.Output[str]
    bootstrap: pulumi.Output[str]

    def __init__(self, name: str, args: KafkaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:platforms:AwsKafka", name, {}, opts)
        self._args, self._scope = args, args.scope
        self._child = pulumi.ResourceOptions(parent=self)
        guard = AwsResource(
            "ec2/securityGroup:SecurityGroup",
            "kafka",
            {
                "name": f"{self._scope.prefix}-kafka",
                "description": "Kafka: asked from the cluster",
                "vpcId": args.network.vpc.id,
                "tags": self._scope.named("kafka"),
            },
            self._child,
        )
        network.allow_group(args.clients, guard, "kafka", IAM_PORT, self._child)
        config = args.config
        made = (
            self._provisioned(config, guard) if isinstance(config, ProvisionedKafkaConfig) else self._serverless(guard)
        )
        self.arn, self.bootstrap = made.output("arn"), made.output("bootstrapBrokersSaslIam")
        self.register_outputs({"bootstrap": self.bootstrap})

    def _provisioned(self, config: ProvisionedKafkaConfig, guard: AwsResource) -> AwsResource:
        scope, subnets = self._scope, list(self._args.network.data)
        key = keys.key(scope, "kafka", "topics", self._child)
        path = f"/slipway/{scope.environment}/kafka"
        logs = keys.log_group(scope, "kafka", path, LOG_DAYS, self._args.log_key, self._child)
        settings = AwsResource(
            "msk/configuration:Configuration",
            "kafka",
            {
                "name": scope.prefix,
                "kafkaVersions": [config.version],
                "serverProperties": server_properties(len(subnets)),
            },
            self._child,
            outputs=("arn", "latestRevision"),
        )
        inputs: dict[str, Any] = {
            "clusterName": scope.prefix,
            "kafkaVersion": config.version,
            "numberOfBrokerNodes": config.brokers_per_zone * len(subnets),
            "brokerNodeGroupInfo": {
                "instanceType": config.instance_type,
                "clientSubnets": subnets,
                "securityGroups": [guard.id],
                "storageInfo": {"ebsStorageInfo": {"volumeSize": config.volume_gb}},
            },
            "clientAuthentication": {"sasl": {"iam": True}, "unauthenticated": False},
            "encryptionInfo": {
                "encryptionAtRestKmsKeyArn": key.output("arn"),
                "encryptionInTransit": {"clientBroker": "TLS", "inCluster": True},
            },
            "configurationInfo": {
                "arn": settings.output("arn"),
                "revision": settings.output("latestRevision"),
            },
            "enhancedMonitoring": "PER_TOPIC_PER_BROKER",
            "openMonitoring": {
                "prometheus": {"jmxExporter": {"enabledInBroker": True}, "nodeExporter": {"enabledInBroker": True}}
            },
            "loggingInfo": {"brokerLogs": {"cloudwatchLogs": {"enabled": True, "logGroup": logs.output("name")}}},
            "tags": scope.named("kafka"),
        }
        outputs = ("arn", "bootstrapBrokersSaslIam")
        return AwsResource("msk/cluster:Cluster", "kafka", inputs, scope.keeping(self), outputs)

    def _serverless(self, guard: AwsResource) -> AwsResource:
        inputs = {
            "clusterName": self._scope.prefix,
            "vpcConfigs": [{"subnetIds": list(self._args.network.data), "securityGroupIds": [guard.id]}],
            "clientAuthentication": {"sasl": {"iam": {"enabled": True}}},
            "tags": self._scope.named("kafka"),
        }
        outputs = ("arn", "bootstrapBrokersSaslIam")
        return AwsResource(
            "msk/serverlessCluster:ServerlessCluster", "kafka", inputs, self._scope.keeping(self), outputs
        )


def server_properties(zones: int) -> str:
    """Brokers' settings; with two zones a partition has two copies, and one has to do."""
    found = dict(SERVER_PROPERTIES)
    if zones < 3:  # noqa: PLR2004 (copies of a partition)
        found |= {"default.replication.factor": "2", "min.insync.replicas": "1", "transaction.state.log.min.isr": "1"}
    return "".join(f"{key}={value}\n" for key, value in found.items())


def of_cluster(arn: pulumi.Input[str], kind: str, name: str) -> pulumi.Output[str]:
    """ARN of a topic, group or transactional id: `…:cluster/<name>/<id>` → `…:<kind>/<name>/<id>/<what>`."""
    return pulumi.Output.from_input(arn).apply(lambda it: f"{it.replace(':cluster/', f':{kind}/')}/{name}")


def statements(arn: pulumi.Input[str], needs: Needs) -> list[Statement]:
    """What the needs come to in MSK: exact topics and groups, transactions whose ids begin with the group."""

    def named(kind: str, names: Iterable[str]) -> list[pulumi.Input[str]]:
        return [of_cluster(arn, kind, name) for name in dict.fromkeys(names)]

    groups = [needs.group] if needs.group else []
    wanted: list[tuple[Sequence[str], list[pulumi.Input[str]]]] = [
        (CONNECT, [arn]),
        (["WriteDataIdempotently"], [arn] if needs.produces else []),
        (["DescribeTopic", "DescribeTopicDynamicConfiguration", "ReadData"], named("topic", needs.consumes)),
        (["DescribeTopic", "DescribeTopicDynamicConfiguration", "WriteData"], named("topic", needs.produces)),
        (["DescribeGroup", "AlterGroup"], named("group", groups)),
        (
            ["DescribeTransactionalId", "AlterTransactionalId"],
            named("transactional-id", [f"{group}-*" for group in groups if needs.produces]),
        ),
        (["DescribeTopic"], named("topic", needs.measures.values())),
        (["DescribeGroup"], named("group", needs.measures)),
        (MAKE_TOPICS, named("topic", needs.declares)),
    ]
    return [
        iam.allow([f"kafka-cluster:{each}" for each in actions], resources)
        for actions, resources in wanted
        if resources
    ]
