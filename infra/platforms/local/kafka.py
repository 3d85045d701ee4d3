"""Kafka on the local platform: one KRaft node over a volume, clients by SASL, rights by ACLs.

The platform's own users are lines of the broker's mounted Secret, there before it starts (PLAIN). Those of workloads
come and go while it runs, and it keeps them itself (`kafka_users`). The network between is the cluster's, closed by
policies to all but clients.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.k8s import network, probes, workloads
from infra.k8s.manifest import Manifest, declare, metadata, name_of
from infra.outputs import Kafka, KafkaScaler, Namespaces
from infra.random_secret import RandomSecret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.config.platform import KafkaConfig

PORT, INTERNAL_PORT, CONTROLLER_PORT = 9092, 9094, 9093
"""Of clients; the other two are the node's own, on its loopback."""

CLUSTER_ID = "c2xpcHdheS1sb2NhbC1rYQ"
"""Sixteen bytes in base64, as Kafka wants them; there is one broker, and nobody to confuse it with."""

ADMIN, SCALER = "admin", "keda"
"""The platform's users: one that declares topics and users, one that looks at lags."""

SECRET_BYTES = 24
START_SECONDS = 120
LABELS = {names.LABEL_NAME: names.KAFKA}
CLIENT_LABELS = {names.LABEL_KAFKA_CLIENT: "true"}
PROPERTIES = "client.properties"
"""Of librdkafka: key of a Secret, name of the file that it is mounted as."""
SECURITY_PROTOCOL = "SASL_PLAINTEXT"
OWN_MECHANISM, MECHANISM = "PLAIN", "SCRAM-SHA-512"
"""Of the platform's users, and of the workloads'."""


@dataclass(frozen=True, kw_only=True)
class KafkaBrokerArgs:
    """What the broker is made from."""

    config: KafkaConfig
    image: str
    namespaces: Namespaces


class KafkaBroker(pulumi.ComponentResource):
    """The broker, its users and who may reach it."""

    kafka: Kafka
    admin: pulumi.Output[str]
    """Secret in the models' namespace, where topics are declared, with `client.properties` of librdkafka."""

    def __init__(self, name: str, args: KafkaBrokerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:platforms:KafkaBroker", name, {}, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        passwords = {user: RandomSecret(f"{name}-{user}", SECRET_BYTES, self._child).result for user in (ADMIN, SCALER)}
        namespace = args.namespaces.platform
        bootstrap = f"{names.service_host(names.KAFKA, names.PLATFORM_NAMESPACE)}:{PORT}"
        properties = pulumi.Output.all(**passwords).apply(lambda known: server_properties(known, bootstrap))
        config = declare(
            f"{name}-server",
            workloads.secret(f"{name}-server", namespace, {"server.properties": properties}),
            self._child,
        )
        for policy, manifest in policies(args.namespaces).items():
            declare(f"{name}-{policy}", manifest, self._child)
        service = declare(name, service_manifest(namespace), self._child)
        options = pulumi.ResourceOptions(parent=self, depends_on=[service])
        broker = declare(name, broker_manifest(args, name_of(config), name_of(service)), options)
        self.kafka = Kafka(
            # By way of the broker: whoever has the address may use it.
            bootstrap=name_of(broker).apply(lambda _: bootstrap),
            port=PORT,
            peers=[network.namespace_peer(args.namespaces.platform, LABELS)],
            scaler=KafkaScaler(secret={"sasl": "plaintext", "username": SCALER, "password": passwords[SCALER]}),
        )
        credentials = credentials_manifest(
            f"{name}-{ADMIN}", args.namespaces.models, ADMIN, passwords[ADMIN], OWN_MECHANISM
        )
        self.admin = name_of(declare(f"{name}-{ADMIN}", credentials, self._child))
        self.register_outputs({"bootstrap": self.kafka.bootstrap})


def credentials_manifest(
    name: str, namespace: pulumi.Input[str], user: str, password: pulumi.Output[str], mechanism: str = MECHANISM
) -> Manifest:
    """The Secret of a user's clients."""
    values: dict[str, pulumi.Input[str]] = {
        PROPERTIES: password.apply(lambda known: client_properties(user, known, mechanism)),
        "username": user,
        "password": password,
    }
    return workloads.secret(name, namespace, values)


def client_properties(user: str, password: str, mechanism: str = MECHANISM) -> str:
    """What a client of librdkafka is told, as a file."""
    lines = {
        "security.protocol": SECURITY_PROTOCOL,
        "sasl.mechanism": mechanism,
        "sasl.username": user,
        "sasl.password": password,
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def server_properties(passwords: Mapping[str, str], bootstrap: str) -> str:
    """The broker's whole configuration, its users among it."""
    users = " ".join(f'user_{user}="{password}"' for user, password in sorted(passwords.items()))
    lines = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{CONTROLLER_PORT}",
        "listeners": f"CLIENTS://:{PORT},INTERNAL://127.0.0.1:{INTERNAL_PORT},CONTROLLER://127.0.0.1:{CONTROLLER_PORT}",
        "advertised.listeners": f"CLIENTS://{bootstrap},INTERNAL://127.0.0.1:{INTERNAL_PORT},"
        f"CONTROLLER://127.0.0.1:{CONTROLLER_PORT}",
        "listener.security.protocol.map": f"CLIENTS:{SECURITY_PROTOCOL},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "INTERNAL",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": "/data",
        "listener.name.clients.sasl.enabled.mechanisms": f"{OWN_MECHANISM},{MECHANISM}",
        "listener.name.clients.plain.sasl.jaas.config": (
            f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
        ),
        f"listener.name.clients.{MECHANISM.lower()}.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # Only the node itself is anonymous: its two other listeners are on its loopback.
        "super.users": f"User:{ADMIN};User:ANONYMOUS",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def broker_manifest(args: KafkaBrokerArgs, config: pulumi.Input[str], service: pulumi.Input[str]) -> Manifest:
    """The StatefulSet of one broker and its volume. Another configuration is another pod; passwords never change."""
    digest = hashlib.sha256(server_properties({}, "").encode()).hexdigest()
    check = {"tcpSocket": {"port": "kafka"}, "timeoutSeconds": 2}
    container = workloads.container(
        "kafka",
        args.image,
        workloads.resources(cpu="250m", cpu_limit="2", memory=args.config.memory),
        {"data": "/data", "config": "/config", "scratch": workloads.SCRATCH},
        env=workloads.env(
            {
                "KAFKA_CLUSTER_ID": CLUSTER_ID,
                # Half of the memory is Java's heap; its threads, its buffers and the page cache need the rest.
                "KAFKA_JAVA_OPTIONS": "-XX:MaxRAMPercentage=50 -XX:+ExitOnOutOfMemoryError",
            }
        ),
        ports=[{"name": "kafka", "containerPort": PORT}],
        startupProbe={**check, "periodSeconds": probes.STARTUP_PERIOD, "failureThreshold": START_SECONDS // 2},
        readinessProbe={**check, "periodSeconds": 3, "failureThreshold": 3},
        livenessProbe={**check, "periodSeconds": 10, "failureThreshold": 6},
    )
    pod = workloads.Pod(
        labels=LABELS,
        containers=[container],
        volumes={"config": {"secret": {"secretName": config}}, "scratch": {"emptyDir": {"sizeLimit": "256Mi"}}},
        annotations={names.ANNOTATION_CONFIG_DIGEST: digest},
        grace_seconds=60,
    )
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": args.config.volume}}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(names.KAFKA, args.namespaces.platform, LABELS),
        "spec": {
            "replicas": 1,
            "serviceName": service,
            "selector": {"matchLabels": LABELS},
            "template": pod.template(),
            "volumeClaimTemplates": [claim],
        },
    }


def service_manifest(namespace: pulumi.Input[str]) -> Manifest:
    """Headless: clients talk to the broker itself, ready or not, and it to nobody by this name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        # It is there before its pod, which names it: nobody waits for endpoints.
        "metadata": metadata(names.KAFKA, namespace, LABELS, {"pulumi.com/skipAwait": "true"}),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": LABELS,
            "ports": [{"name": "kafka", "port": PORT, "targetPort": "kafka", "protocol": "TCP", "appProtocol": "tcp"}],
        },
    }


def policies(namespaces: Namespaces) -> dict[str, Manifest]:
    """Clients of the models' namespace reach the broker, and nobody else does."""
    broker = network.namespace_peer(namespaces.platform, LABELS)
    clients = [network.namespace_peer(namespaces.models, CLIENT_LABELS), network.namespace_peer(names.KEDA_NAMESPACE)]
    return {
        "policy": network.allow(
            names.KAFKA, namespaces.platform, LABELS, ingress=[network.flow("from", clients, [PORT])]
        ),
        "clients": network.allow(
            f"{names.KAFKA}-clients", namespaces.models, CLIENT_LABELS, egress=[network.flow("to", [broker], [PORT])]
        ),
    }
