"""Manifests of one release: what serves one version of one model. Pure data, no resources."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.access import Needs, Place
from infra.config.models import MirrorConfig
from infra.k8s import network, placement, probes, sidecar, workloads
from infra.k8s.manifest import Manifest, metadata
from infra.k8s.quantities import cores
from services.contract import GRPC_PORT, HTTP_PORT, MODEL_MOUNT, Env, Route

if TYPE_CHECKING:
    from infra.access import Granted
    from infra.config.models import RealtimeModelConfig, ReleaseConfig
    from infra.outputs import PlatformOutputs
    from infra.registry.reference import ResolvedModel

HTTP = "http"
"""Name of the port, by which probes and Services refer to it."""

CONTAINER = "inference"
"""Name of the pods' container."""

PORTS = {HTTP: HTTP_PORT, workloads.GRPC: GRPC_PORT}
"""Ports of the pods and of their Service, by name."""

CACHE = "/cache"
"""Where the service keeps the artifact it downloaded."""

ROUTE_SECONDS = 5
"""A pod keeps answering so long after it is told to end, while the gateway learns of it (it does within 1 s)."""

DRAIN_SECONDS = 30
"""Time for the requests that are then still in flight."""

PLACEMENT_SECONDS = 60
"""Time beyond the model's own to schedule the pod and start its image."""


@dataclass(frozen=True, kw_only=True)
class ReleaseSpec:
    """All that the manifests of a release depend on."""

    model: str
    release: str
    config: ReleaseConfig
    settings: RealtimeModelConfig
    """The model's settings, shared by its releases."""
    resolved: ResolvedModel
    image: str
    platform: PlatformOutputs
    mlflow_url: pulumi.Input[str]
    granted: Granted
    """What the platform gives for `needs`."""
    mtls: bool
    """Whether its pods answer those alone who show a certificate of the mesh."""

    @property
    def namespace(self) -> pulumi.Input[str]:
        """Where its objects are."""
        return self.platform.namespaces.models

    @property
    def name(self) -> str:
        """Name of each of the release's objects."""
        return names.workload(self.model, self.release)

    @property
    def labels(self) -> dict[str, str]:
        """Labels that select the release's pods; they never change."""
        return {**model_labels(self.model), names.LABEL_RELEASE: self.release}

    @property
    def pod_labels(self) -> dict[str, str]:
        """Labels of its pods."""
        return {**self.labels, **self.granted.labels, **(sidecar.LABELS if self.mtls else {})}

    @property
    def pod_annotations(self) -> dict[str, str]:
        """Annotations of its pods; a shadow asks the live release, which has a sidecar, too."""
        meshed = sidecar.pod_annotations((HTTP_PORT, Route.METRICS), outbound=[HTTP_PORT]) if self.mtls else {}
        return {**served(self.resolved), **meshed}


def model_labels(model: str) -> dict[str, str]:
    """Labels of everything that belongs to a model."""
    return {names.LABEL_NAME: model, names.LABEL_MODEL: model}


def host(model: str, release: str) -> str:
    """Fully qualified name of a release's Service."""
    return names.service_host(names.workload(model, release), names.MODELS_NAMESPACE)


def needs(settings: RealtimeModelConfig) -> Needs:
    """What a release does on the platform: write its log, where it has one. Its model comes from MLflow."""
    log = settings.prediction_log
    if log is None:
        return Needs()
    return Needs(
        appends=[] if log.prefix is None else [Place("predictions", log.prefix)],
        produces=[] if log.topic is None else [log.topic],
    )


def deadline_seconds(settings: RealtimeModelConfig) -> int:
    """Time after which a release that is not ready fails the update."""
    return settings.startup_seconds + PLACEMENT_SECONDS


def environment(spec: ReleaseSpec) -> dict[str, pulumi.Input[str]]:
    """Variables of the service's container; version and digest among them, so that a diff shows both."""
    contract: dict[str, pulumi.Input[str]] = {
        Env.MODEL_NAME: spec.model,
        # KServe has brought it there; the digest says whether it is the same.
        Env.MODEL_URI: MODEL_MOUNT if spec.settings.runtime == "kserve" else spec.resolved.uri,
        Env.MODEL_DIGEST: spec.resolved.digest,
        Env.MODEL_VERSION: spec.resolved.version,
        Env.RELEASE: spec.release,
        Env.CACHE_DIR: CACHE,
        Env.TORCH_THREADS: str(max(1, math.floor(cores(spec.config.resources.cpu_limit)))),
        Env.MLFLOW_TRACKING_URI: spec.mlflow_url,
        Env.MLFLOW_DIRECT_DOWNLOAD: "false",
    }
    if spec.release == spec.settings.shadow:
        mirror = spec.settings.mirror or MirrorConfig()
        contract[Env.COMPARE_URL] = f"http://{host(spec.model, spec.settings.live)}:{HTTP_PORT}"
        contract[Env.COMPARE_SHARE] = f"{mirror.compare_percent / 100:g}"
    return {**contract, **_log(spec), "HOME": workloads.SCRATCH, **spec.config.env}


def _log(spec: ReleaseSpec) -> dict[str, pulumi.Input[str]]:
    """Variables of the prediction log."""
    log, platform = spec.settings.prediction_log, spec.platform
    if log is None:
        return {}
    said: dict[str, pulumi.Input[str]] = {Env.PREDICTION_LOG_SHARE: f"{log.share:g}"}
    if log.redact:
        said[Env.PREDICTION_LOG_REDACT] = ",".join(log.redact)
    if log.topic is not None:
        if platform.kafka is None:
            raise AssertionError("a log in Kafka without Kafka is refused with the configuration")
        said[Env.PREDICTION_LOG] = pulumi.Output.concat("kafka://", platform.kafka.bootstrap, "/", log.topic)
        return said
    bucket = platform.predictions_bucket
    said[Env.PREDICTION_LOG] = pulumi.Output.concat("s3://", bucket.name, "/", (log.prefix or "").rstrip("/"))
    said["AWS_DEFAULT_REGION"] = bucket.region
    if bucket.endpoint is not None:
        said[Env.S3_ENDPOINT_URL] = bucket.endpoint
    return said


def pod(spec: ReleaseSpec, account: pulumi.Input[str]) -> workloads.Pod:
    """The pods of a release, whatever makes them."""
    return workloads.Pod(
        labels=spec.pod_labels,
        annotations=spec.pod_annotations,
        containers=[_container(spec)],
        volumes={
            "cache": {"emptyDir": {"sizeLimit": "10Gi"}},
            "scratch": {"emptyDir": {"sizeLimit": "1Gi"}},
            **spec.granted.volumes,
        },
        service_account=account,
        grace_seconds=ROUTE_SECONDS + DRAIN_SECONDS,
        extra={
            **placement.spread(spec.labels),
            **placement.nodes(spec.config.resources.placement),
        },
    )


def deployment(spec: ReleaseSpec, account: pulumi.Input[str]) -> Manifest:
    """The Deployment: a new pod is ready before an old one goes."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(spec.name, spec.namespace, spec.labels, served(spec.resolved)),
        "spec": {
            "replicas": max(1, spec.settings.scaling.min),
            "progressDeadlineSeconds": deadline_seconds(spec.settings),
            "revisionHistoryLimit": 2,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": spec.labels},
            "template": pod(spec, account).template(),
        },
    }


def served(resolved: ResolvedModel) -> dict[str, str]:
    """What the release serves, for people."""
    return {
        names.ANNOTATION_MODEL_SOURCE: resolved.reference,
        names.ANNOTATION_MODEL_VERSION: resolved.version,
        names.ANNOTATION_MODEL_DIGEST: resolved.digest,
    }


def service(spec: ReleaseSpec) -> Manifest:
    """The Service of the release's pods."""
    return workloads.service(spec.name, spec.namespace, spec.labels, PORTS)


def network_policy(
    model: str,
    namespace: pulumi.Input[str],
    gateway_namespace: pulumi.Input[str],
    registry: tuple[pulumi.Input[str], int],
    shadow: str | None = None,
    *,
    mtls: bool = False,
) -> Manifest:
    """The gateway may ask the model's pods; they may fetch artifacts from the registry (namespace and port).

    With a shadow they may also ask each other: it asks the live release.
    """
    registry_namespace, registry_port = registry
    mlflow = network.namespace_peer(registry_namespace, {names.LABEL_NAME: names.MLFLOW})
    ingress = [network.flow("from", [network.namespace_peer(gateway_namespace)], list(PORTS.values()))]
    egress = [network.flow("to", [mlflow], [registry_port]), *([sidecar.to_control_plane()] if mtls else [])]
    if shadow is not None:
        siblings = [network.namespace_peer(namespace, model_labels(model))]
        ingress.append(network.flow("from", siblings, [HTTP_PORT]))
        egress.append(network.flow("to", siblings, [HTTP_PORT]))
    return network.allow(model, namespace, model_labels(model), ingress=ingress, egress=egress)


def _container(spec: ReleaseSpec) -> Manifest:
    limits = spec.config.resources
    return workloads.container(
        CONTAINER,
        spec.image,
        placement.resources(limits),
        {"cache": CACHE, "scratch": workloads.SCRATCH, **spec.granted.mounts},
        env=[*workloads.env(environment(spec)), *spec.granted.env],
        ports=[{"name": name, "containerPort": port} for name, port in PORTS.items()],
        startupProbe=probes.startup(Route.READY, HTTP, within=spec.settings.startup_seconds),
        readinessProbe=probes.readiness(Route.READY, HTTP),
        livenessProbe=probes.liveness(Route.LIVE, HTTP),
        lifecycle={"preStop": {"sleep": {"seconds": ROUTE_SECONDS}}},
    )
