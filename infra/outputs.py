"""What one stage of `infra.deploy` hands to the next. Every platform fills the same fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pulumi import ResourceOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulumi import Output, ProviderResource, Resource


@dataclass(frozen=True, kw_only=True)
class Namespaces:
    """Namespaces that exist, with their Pod Security and default-deny in force."""

    platform: Output[str]
    models: Output[str]


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """An S3 bucket that can be used now."""

    name: Output[str]
    endpoint: Output[str] | None
    """Address of the S3 API; None is AWS itself."""
    region: Output[str]
    credentials: Output[str] | None
    """Secret, in the namespace of the pods that use the bucket, with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`;
    None where the pod's own identity is enough."""


@dataclass(frozen=True, kw_only=True)
class MlflowDatabase:
    """Where MLflow keeps experiments and the registry."""

    uri: Output[str]
    """SQLAlchemy's address of it."""
    claim: Output[str] | None
    """PersistentVolumeClaim in the platform's namespace to mount where the address points; None for a server."""


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """How requests from outside reach the gateway."""

    node_port: int
    """Port on every node."""
    url: str
    """Base address that callers use, without a final slash."""


@dataclass(frozen=True, kw_only=True)
class Kafka:
    """Brokers that clients in the models' namespace can use now."""

    bootstrap: Output[str]
    """Addresses to start from: `host:port`, separated by commas."""
    port: int
    """Of every broker, for network policies."""
    security_protocol: str
    mechanism: str
    credentials: Output[str] | None
    """Secret in the models' namespace with `client.properties` of librdkafka, `username` and `password`; None where
    the pod's own identity is enough."""
    admin_credentials: Output[str] | None
    """The same of the user that declares topics and rights."""
    user: str
    """Whom rights are given to."""
    password: Output[str] | None
    """Of that user, for what logs in from elsewhere; a secret. None where the pod's own identity is enough."""
    mechanism_of_keda: str
    """What KEDA calls the mechanism: `plaintext`, `scram_sha512`, `none`."""
    client_labels: Mapping[str, str]
    """Labels of pods that may reach the brokers."""
    brokers: int


@dataclass(frozen=True, kw_only=True)
class PlatformOutputs:
    """What every platform provides. Components see this and never the platform itself."""

    namespaces: Namespaces
    models_bucket: Bucket
    """Artifacts; used by MLflow, in the platform's namespace."""
    features_bucket: Bucket
    """What batch models read; used in the models' namespace."""
    predictions_bucket: Bucket
    """What batch models write; likewise."""
    mlflow_database: MlflowDatabase
    exposure: Exposure
    kafka: Kafka | None = None
    """None where the platform has none."""
    kubernetes: ProviderResource | None = None
    """The cluster that everything else goes to; None is the one of the kubeconfig."""

    @property
    def within(self) -> ResourceOptions | None:
        """Options of what goes to that cluster."""
        return None if self.kubernetes is None else ResourceOptions(providers=[self.kubernetes])


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """The gateway that routes bind to."""

    reference: Output[str]
    """`<namespace>/<name>` of the Istio `Gateway`."""
    namespace: Output[str]
    """Namespace of its pods."""
    selector: Mapping[str, str]
    """Labels of its pods."""
    ready: Resource
    """What the mesh's objects depend on: they go before its webhooks do, which are asked about each of them."""
    url: str
    """Base address that callers use, without a final slash."""


@dataclass(frozen=True, kw_only=True)
class Mlflow:
    """A registry that answers."""

    url: Output[str]
    """Address inside the cluster."""
    port: int
    """Its port, for network policies."""
    public_url: str
    """Address through the gateway."""


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """A Prometheus that answers, and the metrics API that scales by it."""

    url: Output[str]
    """Address inside the cluster."""
    public_url: str
    """Address through the gateway."""
    port: int
    """Its port, for network policies."""


@dataclass(frozen=True, kw_only=True)
class Kserve:
    """A KServe that takes InferenceServices."""

    ready: tuple[Resource, ...]
    """Its webhooks, without which an InferenceService would lack its defaults, and what fetches its model."""


@dataclass(frozen=True, kw_only=True)
class Keda:
    """A KEDA that takes ScaledObjects."""

    kinds: Resource
    """What brings its kinds."""
    api: Output[str]
    """Name of its metrics API, known once it answers."""
    kafka_authentication: Output[str] | None = None
    """ClusterTriggerAuthentication for the platform's Kafka; None where there is none, or none is needed."""


@dataclass(frozen=True, kw_only=True)
class AddonOutputs:
    """What the add-ons provide; None for what is not installed."""

    gateway: Gateway
    mlflow: Mlflow
    monitoring: Monitoring | None = None
    kserve: Kserve | None = None
    keda: Keda | None = None
