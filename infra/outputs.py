"""What one stage of `infra.deploy` hands to the next. Every platform fills the same fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pulumi import ResourceOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pulumi import Input, Output, ProviderResource, Resource

    from infra.access import Access


@dataclass(frozen=True, kw_only=True)
class Namespaces:
    """Namespaces that exist, with their Pod Security and default-deny in force."""

    platform: Output[str]
    models: Output[str]


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """An S3 bucket that can be used now, by whom the platform's `access` lets."""

    name: Output[str]
    endpoint: Output[str] | None
    """Address of the S3 API; None is AWS itself."""
    region: Output[str]


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
    internal: bool
    """Whether only the environment's own network gets there: then it serves the registry and Prometheus, too."""


@dataclass(frozen=True, kw_only=True)
class Kafka:
    """Brokers that clients in the models' namespace can use now."""

    bootstrap: Output[str]
    """Addresses to start from: `host:port`, separated by commas."""
    port: int
    """Of every broker, for network policies."""
    peers: Input[Sequence[dict[str, Any]]]
    """Where they are, as network policies say it: pods, or addresses."""
    scaler: KafkaScaler


@dataclass(frozen=True, kw_only=True)
class KafkaScaler:
    """How KEDA's scaler signs in at Kafka to look at the lag."""

    settings: Mapping[str, Input[str]] = field(default_factory=dict)
    """Of each trigger, beside what it watches."""
    secret: Mapping[str, Input[str]] = field(default_factory=dict)
    """What it is told by a Secret."""
    identity: str | None = None
    """Provider of KEDA's pod identity, where it signs in by that."""


@dataclass(frozen=True, kw_only=True)
class GpuMetrics:
    """Pods that tell how GPUs fare, one on each node that has some."""

    namespace: Output[str]
    port: int


@dataclass(frozen=True, kw_only=True)
class PlatformOutputs:
    """What every platform provides. Components see this and never the platform itself."""

    namespaces: Namespaces
    models_bucket: Bucket
    """Artifacts; MLflow's."""
    features_bucket: Bucket
    """What batch models read."""
    predictions_bucket: Bucket
    """What batch models write."""
    mlflow_database: MlflowDatabase
    exposure: Exposure
    access: Access
    """Lets workloads do what they need with all of these."""
    kafka: Kafka | None = None
    """None where the platform has none."""
    gpu_metrics: GpuMetrics | None = None
    """None where nothing tells of GPUs."""
    providers: Sequence[ProviderResource] = ()
    """Of the cluster that everything else goes to, and of what grants are made with; none is those of the machine."""

    @property
    def within(self) -> ResourceOptions:
        """Options of what goes to that cluster."""
        return ResourceOptions(providers=[*self.providers])


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
    internal: bool
    """Whether it serves the registry and Prometheus, too."""
    mtls: bool
    """Whether models answer those alone who show a certificate of the mesh, as it does."""


@dataclass(frozen=True, kw_only=True)
class Mlflow:
    """A registry that answers."""

    url: Output[str]
    """Address inside the cluster."""
    port: int
    """Its port, for network policies."""
    public_url: str | None
    """Address through the gateway; None where that serves models alone."""


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """A Prometheus that answers, and the metrics API that scales by it."""

    url: Output[str]
    """Address inside the cluster."""
    public_url: str | None
    """Address through the gateway; None where that serves models alone."""
    port: int
    """Its port, for network policies."""


@dataclass(frozen=True, kw_only=True)
class Grafana:
    """A Grafana with the environment's dashboards."""

    public_url: str | None
    """Address through the gateway; None where that serves models alone."""


@dataclass(frozen=True, kw_only=True)
class Kserve:
    """A KServe that takes InferenceServices."""

    ready: tuple[Resource, ...]
    """Its webhooks, without which an InferenceService would lack its defaults, and what fetches its model."""


@dataclass(frozen=True, kw_only=True)
class Keda:
    """A KEDA that takes ScaledObjects."""

    operator: Resource
    """What its objects come after and go before: it takes off the finalizers that it puts on."""
    api: Output[str]
    """Name of its metrics API, known once it answers."""
    kafka_authentication: Output[str] | None = None
    """ClusterTriggerAuthentication for the platform's Kafka; None where there is none, or none is needed."""


@dataclass(frozen=True, kw_only=True)
class Kuberay:
    """A KubeRay that takes RayJobs."""

    operator: Resource
    """What makes RayJobs comes after it and goes before it: it takes off the finalizers that it puts on."""
    namespace: Output[str]
    """Where its pods are."""
    labels: Mapping[str, str]
    """Of its pods."""


@dataclass(frozen=True, kw_only=True)
class AddonOutputs:
    """What the add-ons provide; None for what is not installed."""

    gateway: Gateway
    mlflow: Mlflow
    monitoring: Monitoring | None = None
    grafana: Grafana | None = None
    kserve: Kserve | None = None
    keda: Keda | None = None
    kuberay: Kuberay | None = None
