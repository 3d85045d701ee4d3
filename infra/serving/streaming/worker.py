"""Manifests of a stream model: the workers of one consumer group. Pure data, no resources."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra import names
from infra.access import Needs
from infra.config.streaming import RELEASE, SHADOW
from infra.k8s import network, placement, probes, workloads
from infra.k8s.manifest import Manifest, metadata
from infra.k8s.quantities import cores
from services.contract import HTTP_PORT, STREAM_MODULE, Env, Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pulumi

    from infra.access import Granted
    from infra.config.streaming import StreamModelConfig
    from infra.outputs import Kafka, Mlflow, Namespaces
    from infra.registry.reference import ResolvedModel

CACHE = "/cache"
HTTP = "http"
"""Name of the port of probes and metrics."""

GRACE_SECONDS = 60
"""A worker that is told to stop commits what it began, in less than a second, and leaves its group."""

PLACEMENT_SECONDS = 60
"""Time beyond the model's own to schedule the pod and start its image."""

POLL_SECONDS, COOL_SECONDS = 5, 60
"""Between two looks at the lag, and how long it has to be gone before the last worker above `min` goes."""


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """All that the manifests of a stream model depend on."""

    model: str
    config: StreamModelConfig
    resolved: Mapping[str, ResolvedModel]
    image: str
    namespaces: Namespaces
    kafka: Kafka
    mlflow: Mlflow
    granted: Granted
    """What the platform gives for `needs`."""

    @property
    def name(self) -> str:
        """Name of each of the model's objects."""
        return names.stream(self.model)

    @property
    def namespace(self) -> pulumi.Input[str]:
        """Where they are."""
        return self.namespaces.models

    @property
    def selector(self) -> dict[str, str]:
        """Labels that select its pods; they never change."""
        return {names.LABEL_NAME: self.model, names.LABEL_MODEL: self.model}

    @property
    def labels(self) -> dict[str, str]:
        """Labels of its pods. `stream` stands where other kinds have a release: metrics are told apart by it."""
        return {**self.selector, names.LABEL_RELEASE: RELEASE, **self.granted.labels}

    @property
    def group(self) -> str:
        """Consumer group."""
        return group(self.model, self.config)


def group(model: str, config: StreamModelConfig) -> str:
    """Consumer group of a stream."""
    return config.group or model


def needs(model: str, config: StreamModelConfig) -> Needs:
    """What the workers do in Kafka."""
    return Needs(consumes=[config.input], produces=[config.output, config.dead_letter], group=group(model, config))


def deadline_seconds(config: StreamModelConfig) -> int:
    """Time after which workers that are not ready fail the update."""
    return config.startup_seconds + PLACEMENT_SECONDS


def environment(spec: WorkerSpec) -> dict[str, pulumi.Input[str]]:
    """Variables of the container; version and digest among them, so that a diff shows both."""
    config, live = spec.config, spec.resolved[RELEASE]
    contract: dict[str, pulumi.Input[str]] = {
        Env.MODEL_NAME: spec.model,
        Env.MODEL_URI: live.uri,
        Env.MODEL_DIGEST: live.digest,
        Env.MODEL_VERSION: live.version,
        Env.RELEASE: RELEASE,
        Env.CACHE_DIR: CACHE,
        Env.TORCH_THREADS: str(max(1, math.floor(cores(config.resources.cpu_limit)))),
        Env.MLFLOW_TRACKING_URI: spec.mlflow.url,
        Env.MLFLOW_DIRECT_DOWNLOAD: "false",
        Env.STREAM_BROKERS: spec.kafka.bootstrap,
        Env.STREAM_INPUT: config.input,
        Env.STREAM_OUTPUT: config.output,
        Env.STREAM_DEAD_LETTER: config.dead_letter,
        Env.STREAM_GROUP: spec.group,
        Env.STREAM_GUARANTEE: config.guarantee,
        Env.STREAM_BATCH_ROWS: str(config.batch_rows),
        Env.STREAM_BATCH_MS: f"{config.batch_ms:g}",
        Env.STREAM_COMMIT_MS: f"{config.commit_ms:g}",
    }
    if SHADOW in spec.resolved:
        contract[Env.SHADOW_URI] = spec.resolved[SHADOW].uri
        contract[Env.SHADOW_DIGEST] = spec.resolved[SHADOW].digest
    return {**contract, "HOME": workloads.SCRATCH, **config.env}


def deployment(spec: WorkerSpec, account: pulumi.Input[str]) -> Manifest:
    """The Deployment. Old workers go as new ones come: their group hands partitions over, and none is read twice."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(spec.name, spec.namespace, spec.selector, _served(spec)),
        "spec": {
            "replicas": spec.config.scaling.min,
            "progressDeadlineSeconds": deadline_seconds(spec.config),
            "revisionHistoryLimit": 2,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": spec.selector},
            "template": _pod(spec, account).template(),
        },
    }


def network_policy(spec: WorkerSpec) -> Manifest:
    """They may fetch artifacts from the registry; the way to Kafka is the platform's to allow. Nobody asks them."""
    mlflow = network.namespace_peer(spec.namespaces.platform, {names.LABEL_NAME: names.MLFLOW})
    return network.allow(
        spec.name, spec.namespace, spec.selector, egress=[network.flow("to", [mlflow], [spec.mlflow.port])]
    )


def scaled_object(
    spec: WorkerSpec, deployment: pulumi.Input[str], authentication: pulumi.Input[str] | None
) -> Manifest:
    """KEDA's: as many workers as the lag asks for, and no more than there are partitions."""
    scaling = spec.config.scaling
    trigger: Manifest = {
        "type": "kafka",
        "metadata": {
            "bootstrapServers": spec.kafka.bootstrap,
            "consumerGroup": spec.group,
            "topic": spec.config.input,
            "lagThreshold": str(scaling.lag),
            "offsetResetPolicy": "earliest",
            # A group that has committed nothing yet has all of the topic before it.
            "scaleToZeroOnInvalidOffset": "false",
            **spec.kafka.scaler.settings,
        },
    }
    if authentication is not None:
        trigger["authenticationRef"] = {"name": authentication, "kind": "ClusterTriggerAuthentication"}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata(spec.name, spec.namespace, spec.selector),
        "spec": {
            "scaleTargetRef": {"name": deployment},
            "minReplicaCount": scaling.min,
            "maxReplicaCount": scaling.max,
            "pollingInterval": POLL_SECONDS,
            "cooldownPeriod": COOL_SECONDS,
            "triggers": [trigger],
        },
    }


def _served(spec: WorkerSpec) -> dict[str, str]:
    live = spec.resolved[RELEASE]
    return {
        names.ANNOTATION_MODEL_SOURCE: live.reference,
        names.ANNOTATION_MODEL_VERSION: live.version,
        names.ANNOTATION_MODEL_DIGEST: live.digest,
    }


def _pod(spec: WorkerSpec, account: pulumi.Input[str]) -> workloads.Pod:
    volumes: dict[str, Manifest] = {
        "cache": {"emptyDir": {"sizeLimit": "10Gi"}},
        "scratch": {"emptyDir": {"sizeLimit": "1Gi"}},
        **spec.granted.volumes,
    }
    return workloads.Pod(
        labels=spec.labels,
        annotations=_served(spec),
        containers=[_container(spec)],
        volumes=volumes,
        service_account=account,
        grace_seconds=GRACE_SECONDS,
        extra={**placement.spread(spec.selector), **placement.nodes(spec.config.resources.placement)},
    )


def _container(spec: WorkerSpec) -> Manifest:
    return workloads.container(
        "worker",
        spec.image,
        placement.resources(spec.config.resources),
        {"cache": CACHE, "scratch": workloads.SCRATCH, **spec.granted.mounts},
        command=["python", "-m", STREAM_MODULE],
        env=[*workloads.env(environment(spec)), *spec.granted.env],
        ports=[{"name": HTTP, "containerPort": HTTP_PORT}],
        startupProbe=probes.startup(Route.READY, HTTP, within=spec.config.startup_seconds),
        readinessProbe=probes.readiness(Route.READY, HTTP),
        livenessProbe=probes.liveness(Route.LIVE, HTTP),
    )
