"""MSK: Kafka whose clients are IAM roles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi

from infra.config.aws import ProvisionedKafkaConfig
from infra.platforms.aws import keys, network
from infra.platforms.aws.resource import AwsResource, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.config.aws import AwsKafkaConfig
    from infra.platforms.aws.iam import Statement
    from infra.platforms.aws.network import Network

IAM_PORT = 9098
"""Brokers listen there for clients that sign by IAM; MSK has no other choice."""

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
    """ARN of a topic, group or transactional id of a cluster: `…:cluster/<name>/<id>` → `…:<kind>/<name>/<id>/<what>`."""
    return pulumi.Output.from_input(arn).apply(lambda it: f"{it.replace(':cluster/', f':{kind}/')}/{name}")


def worker_statements(
    arn: pulumi.Input[str], reads: Sequence[str], writes: Sequence[str], group: str
) -> list[Statement]:
    """What a stream's worker may: read its topics as its group, write its topics in transactions of its own."""

    def allow(actions: Sequence[str], resources: Sequence[pulumi.Input[str]]) -> Statement:
        return {"Effect": "Allow", "Action": [f"kafka-cluster:{each}" for each in actions], "Resource": list(resources)}

    return [
        allow(["Connect", "WriteDataIdempotently"], [arn]),
        allow(["DescribeTopic", "ReadData"], [of_cluster(arn, "topic", topic) for topic in reads]),
        allow(["DescribeTopic", "WriteData"], [of_cluster(arn, "topic", topic) for topic in writes]),
        allow(["DescribeGroup", "AlterGroup"], [of_cluster(arn, "group", group)]),
        allow(
            ["DescribeTransactionalId", "AlterTransactionalId"],
            [of_cluster(arn, "transactional-id", f"{group}-*")],
        ),
    ]


def topics_statements(arn: pulumi.Input[str], topics: Sequence[str]) -> list[Statement]:
    """What the job that applies the stack's topics may: these topics, and nothing in them."""
    actions = ["CreateTopic", "DescribeTopic", "AlterTopic", "DescribeTopicDynamicConfiguration",
               "AlterTopicDynamicConfiguration"]  # fmt: skip
    return [
        {"Effect": "Allow", "Action": ["kafka-cluster:Connect", "kafka-cluster:DescribeCluster"], "Resource": [arn]},
        {
            "Effect": "Allow",
            "Action": [f"kafka-cluster:{each}" for each in actions],
            "Resource": [of_cluster(arn, "topic", topic) for topic in topics],
        },
    ]
