"""Manifests of a batch model: what runs when its schedule says. Pure data, no resources."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pulumi

from infra import names
from infra.access import Needs, Place
from infra.k8s import network, placement, workloads
from infra.k8s.quantities import cores
from services.contract import BATCH_MODULE, FINAL_EXIT_CODES, Env

if TYPE_CHECKING:
    from infra.access import BucketRole, Granted
    from infra.config.batch import BatchModelConfig
    from infra.k8s.manifest import Manifest
    from infra.outputs import Bucket, Mlflow, PlatformOutputs
    from infra.registry.reference import ResolvedModel

CACHE = "/cache"
"""Where the job keeps the artifact, and the parts that it writes."""

CONTAINER = "batch"

GRACE_SECONDS = 30
"""Finished parts are recorded already: a job that is told to stop has nothing to save."""

STARTING_SECONDS = 3600
"""A run that could not begin for so long, because the one before still ran, is left out."""


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """All that the manifests of a batch model depend on."""

    model: str
    config: BatchModelConfig
    resolved: ResolvedModel
    image: str
    platform: PlatformOutputs
    mlflow: Mlflow
    granted: Granted
    """What the platform gives for `needs`."""

    @property
    def name(self) -> str:
        """Name of each of the model's objects."""
        return names.batch_job(self.model)

    @property
    def namespace(self) -> pulumi.Input[str]:
        """Where they are."""
        return self.platform.namespaces.models

    @property
    def labels(self) -> dict[str, str]:
        """Labels of its pods."""
        return {names.LABEL_NAME: self.model, names.LABEL_MODEL: self.model, **self.granted.labels}

    @property
    def annotations(self) -> dict[str, pulumi.Input[str]]:
        """Annotations of its pods: which model it is."""
        return {
            names.ANNOTATION_MODEL_SOURCE: self.resolved.reference,
            names.ANNOTATION_MODEL_VERSION: self.resolved.version,
            names.ANNOTATION_MODEL_DIGEST: self.resolved.digest,
        }


def needs(config: BatchModelConfig) -> Needs:
    """What the job does in the platform's buckets: read its input, and write what it makes of it."""
    return Needs(reads=[_place(config.input)], writes=[_place(config.output)])


def _place(table: str) -> Place:
    """The longest prefix that each day's keys have, and that the job's own listing asks below."""
    role, _, path = table.partition("/")
    wild = re.search(r"[*?[]", path)
    if wild or path.endswith((".parquet", ".parq")):
        path, _, _ = path[: wild.start() if wild else None].rpartition("/")
    prefix, _, _ = (f"{path}/" if path else "").partition("{date}")
    return Place(cast("BucketRole", role), prefix)


def environment(spec: JobSpec) -> dict[str, pulumi.Input[str]]:
    """Variables of the job's container; version and digest among them, so that a diff shows both."""
    config, resolved = spec.config, spec.resolved
    contract: dict[str, pulumi.Input[str]] = {
        Env.MODEL_NAME: spec.model,
        Env.MODEL_URI: resolved.uri,
        Env.MODEL_DIGEST: resolved.digest,
        Env.MODEL_VERSION: resolved.version,
        Env.CACHE_DIR: CACHE,
        Env.TORCH_THREADS: str(max(1, math.floor(cores(config.resources.cpu_limit)))),
        Env.MLFLOW_TRACKING_URI: spec.mlflow.url,
        Env.MLFLOW_DIRECT_DOWNLOAD: "false",
        Env.BATCH_INPUT: _address(spec.platform, config.input),
        Env.BATCH_OUTPUT: _address(spec.platform, config.output),
        Env.BATCH_QUARANTINE_SHARE: f"{config.quarantine_share:g}",
        Env.BATCH_PART_ROWS: str(config.part_rows),
        Env.BATCH_DAY: config.day,
        Env.BATCH_TIMEZONE: config.timezone,
        "AWS_DEFAULT_REGION": spec.platform.features_bucket.region,
        "HOME": workloads.SCRATCH,
    }
    if config.passthrough is not None:
        contract[Env.BATCH_PASSTHROUGH] = ",".join(config.passthrough) or "-"
    if spec.platform.features_bucket.endpoint is not None:
        contract[Env.S3_ENDPOINT_URL] = spec.platform.features_bucket.endpoint
    return {**contract, **config.env}


def _address(platform: PlatformOutputs, path: str) -> pulumi.Output[str]:
    role, _, below = path.partition("/")
    buckets: dict[str, Bucket] = {"features": platform.features_bucket, "predictions": platform.predictions_bucket}
    return pulumi.Output.concat("s3://", buckets[role].name, "/", below)


def cron_job(spec: JobSpec, pod: workloads.Pod) -> Manifest:
    """The CronJob. What another try would meet again ends the run at once, by its exit code."""
    config = spec.config
    schedule: Manifest = {
        "schedule": config.schedule,
        "timeZone": config.timezone,
        "suspend": config.suspend,
        "startingDeadlineSeconds": STARTING_SECONDS,
        "successfulJobsHistoryLimit": config.history.succeeded,
        "failedJobsHistoryLimit": config.history.failed,
    }
    job: Manifest = {
        "activeDeadlineSeconds": config.deadline_seconds,
        "backoffLimit": config.retries,
        "podFailurePolicy": {
            "rules": [
                # A pod that its node evicts has not failed.
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": list(FINAL_EXIT_CODES)},
                },
            ]
        },
    }
    return workloads.cron_job(spec.name, spec.namespace, pod, schedule, job)


def network_policy(spec: JobSpec) -> Manifest:
    """Its pods may fetch artifacts; nobody asks them."""
    return network.allow(spec.name, spec.namespace, spec.labels, egress=[to_registry(spec)])


def to_registry(spec: JobSpec) -> Manifest:
    """The way to the registry, for artifacts; that to S3 is the platform's to allow."""
    mlflow = network.namespace_peer(spec.platform.namespaces.platform, {names.LABEL_NAME: names.MLFLOW})
    return network.flow("to", [mlflow], [spec.mlflow.port])


def scoring_pod(spec: JobSpec, account: pulumi.Input[str]) -> workloads.Pod:
    """The one pod of the engine `local`."""
    container = workloads.container(
        CONTAINER,
        spec.image,
        placement.resources(spec.config.resources),
        {"cache": CACHE, "scratch": workloads.SCRATCH, **spec.granted.mounts},
        command=["python", "-m", BATCH_MODULE],
        env=[*workloads.env(environment(spec)), job_label(Env.BATCH_JOB_NAME, "job-name"), *spec.granted.env],
    )
    return workloads.Pod(
        labels=spec.labels,
        annotations=spec.annotations,
        containers=[container],
        volumes=volumes(spec),
        service_account=account,
        grace_seconds=GRACE_SECONDS,
        extra=placement.nodes(spec.config.resources.placement),
    )


def volumes(spec: JobSpec) -> dict[str, Manifest]:
    """Volumes of a pod that scores."""
    return {
        "cache": {"emptyDir": {"sizeLimit": "20Gi"}},
        "scratch": {"emptyDir": {"sizeLimit": "1Gi"}},
        **spec.granted.volumes,
    }


def job_label(variable: Env, label: str) -> Manifest:
    """A variable with what Kubernetes says of a pod's Job: its name, which tells when it was due, or its UID."""
    return {
        "name": str(variable),
        "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['batch.kubernetes.io/{label}']"}},
    }
