"""Manifests of a batch model on Ray: what a run is a copy of, and what makes the copies. Pure data, no resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra import names
from infra.k8s import network, placement, rbac, workloads
from infra.k8s.manifest import Manifest, metadata
from infra.k8s.probes import readiness
from infra.serving.batch.job import (
    CACHE,
    CONTAINER,
    GRACE_SECONDS,
    JobSpec,
    environment,
    job_label,
    to_registry,
    volumes,
)
from services.contract import BATCH_MODULE, LAUNCH_MODULE, RAY_AGENT_PORT, RAY_DASHBOARD_PORT, Env

if TYPE_CHECKING:
    import pulumi

    from infra.config.batch import RayConfig
    from infra.outputs import Kuberay

GCS_PORT = 6379
"""Of the head: where its workers find it."""

OBJECT_STORE_MIB = 512
"""Of each pod, in its memory. Parts' numbers and records are all that it holds; Ray gives no work to one that is small
beside what it expects of a task, 128 MiB.
"""

LINGER_SECONDS = 20
"""Time that a cluster outlives its job: the launcher asks it for the exit code."""


def ray_job(spec: JobSpec, cluster: RayConfig, account: pulumi.Input[str]) -> Manifest:
    """What a run is a copy of: suspended, it has no pods."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        # The operator puts a finalizer on it, and by that becomes a manager of all that it has read.
        "metadata": metadata(spec.name, spec.namespace, spec.labels, {"pulumi.com/patchForce": "true"}),
        "spec": {
            "suspend": True,
            "entrypoint": f"python -m {BATCH_MODULE}",
            # The operator hands the job in; another pod for that would load all of Ray.
            "submissionMode": "HTTPMode",
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": LINGER_SECONDS,
            "activeDeadlineSeconds": spec.config.deadline_seconds,
            "rayClusterSpec": {
                "headGroupSpec": {
                    "rayStartParams": {**_start(cpus=0), "dashboard-host": "0.0.0.0"},  # noqa: S104 (policies say who)
                    "template": _head(spec, cluster, account),
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "workers",
                        "replicas": cluster.workers,
                        "minReplicas": cluster.workers,
                        "maxReplicas": cluster.workers,
                        # One scorer in each, whatever it has of cores: torch uses them.
                        "rayStartParams": {**_start(cpus=1), "num-gpus": str(spec.config.resources.gpu or 0)},
                        "template": _worker(spec, cluster, account),
                    }
                ],
            },
        },
    }


def _start(cpus: int) -> dict[str, str]:
    """Options of `ray start`."""
    return {"num-cpus": str(cpus), "object-store-memory": str(OBJECT_STORE_MIB * 1024**2)}


def _head(spec: JobSpec, cluster: RayConfig, account: pulumi.Input[str]) -> Manifest:
    head = cluster.head
    ports = {"gcs-server": GCS_PORT, "dashboard": RAY_DASHBOARD_PORT}
    resources = workloads.resources(head.cpu, head.cpu_limit, head.memory)
    return _pod(spec, cluster, account, resources, ports, "/api/gcs_healthz")


def _worker(spec: JobSpec, cluster: RayConfig, account: pulumi.Input[str]) -> Manifest:
    asked = spec.config.resources
    resources, ports = placement.resources(asked), {"agent": RAY_AGENT_PORT}
    template = _pod(spec, cluster, account, resources, ports, "/api/local_raylet_healthz")
    template["spec"] |= placement.nodes(asked.placement)
    return template


def _pod(
    spec: JobSpec,
    cluster: RayConfig,
    account: pulumi.Input[str],
    resources: Manifest,
    ports: dict[str, int],
    ready: str,
) -> Manifest:
    """A pod of the cluster, whose last port answers at `ready`."""
    env = {
        **environment(spec),
        Env.BATCH_ENGINE: "ray",
        Env.BATCH_WORKERS: str(cluster.workers),
        Env.BATCH_WORKER_GPUS: str(spec.config.resources.gpu or 0),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    container = workloads.container(
        "ray",
        spec.image,
        resources,
        {"cache": CACHE, "scratch": workloads.SCRATCH, "shared-memory": "/dev/shm", **spec.granted.mounts},  # noqa: S108
        env=[*workloads.env(env), *spec.granted.env],
        ports=[{"name": name, "containerPort": port} for name, port in ports.items()],
        readinessProbe=readiness(ready, list(ports)[-1]),
    )
    shared_memory: Manifest = {"emptyDir": {"medium": "Memory", "sizeLimit": f"{OBJECT_STORE_MIB}Mi"}}
    pod = workloads.Pod(
        labels=spec.labels,
        annotations=spec.annotations,
        containers=[container],
        volumes={**volumes(spec), "shared-memory": shared_memory},
        service_account=account,
        grace_seconds=GRACE_SECONDS,
    )
    return pod.template()


def cluster_policy(spec: JobSpec, kuberay: Kuberay) -> Manifest:
    """Pods of a model's clusters talk among themselves, on whatever ports Ray chooses; operator and launcher ask the
    head for its jobs. Whoever could do that otherwise could run what he likes there.
    """
    own = network.namespace_peer(spec.namespace, spec.labels)
    operator = network.namespace_peer(kuberay.namespace, kuberay.labels)
    launcher = network.namespace_peer(spec.namespace, launcher_labels(spec))
    return network.allow(
        spec.name,
        spec.namespace,
        spec.labels,
        ingress=[network.flow("from", [own], []), network.flow("from", [operator, launcher], [RAY_DASHBOARD_PORT])],
        egress=[network.flow("to", [own], []), to_registry(spec)],
    )


def launcher_labels(spec: JobSpec) -> dict[str, str]:
    """Labels of its pods: none of the cluster's."""
    return {names.LABEL_NAME: names.launcher(spec.model), names.LABEL_MODEL: spec.model}


def launcher_manifests(spec: JobSpec, account: pulumi.Input[str]) -> dict[str, Manifest]:
    """What the launcher may do, and whom it may ask."""
    name, space = names.launcher(spec.model), spec.namespace
    heads = network.namespace_peer(space, spec.labels)
    rights = [rbac.rule("ray.io", ["rayjobs"], ("create", "delete", "get"))]
    return {
        "role": rbac.role(name, space, rights),
        "binding": rbac.role_binding(name, space, name, rbac.service_account(account, space)),
        "policy": network.allow(
            name,
            space,
            launcher_labels(spec),
            egress=[
                network.flow("to", [], network.API_SERVER_PORTS),
                network.flow("to", [heads], [RAY_DASHBOARD_PORT]),
            ],
        ),
    }


def launching_pod(spec: JobSpec, account: pulumi.Input[str]) -> workloads.Pod:
    """What the schedule starts: it makes the run's RayJob, and ends as that does."""
    container = workloads.container(
        CONTAINER,
        spec.image,
        workloads.resources(cpu="10m", cpu_limit="1", memory="256Mi"),
        {},
        command=["python", "-m", LAUNCH_MODULE],
        env=[
            *workloads.env({Env.BATCH_RAYJOB: spec.name}),
            job_label(Env.BATCH_JOB_NAME, "job-name"),
            job_label(Env.BATCH_JOB_UID, "controller-uid"),
        ],
    )
    return workloads.Pod(
        labels=launcher_labels(spec),
        annotations=spec.annotations,
        containers=[container],
        service_account=account,
        grace_seconds=GRACE_SECONDS,
        extra={"automountServiceAccountToken": True},
    )
