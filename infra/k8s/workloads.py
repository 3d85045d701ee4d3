"""Pods and what keeps them: Deployments, Jobs, Services, budgets, volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infra.k8s.manifest import Manifest, metadata
from infra.k8s.security import container_security_context, pod_security_context

if TYPE_CHECKING:
    import pulumi

Labels = Mapping[str, str]

GRPC = "grpc"
"""Name of a port that speaks gRPC; every other speaks HTTP."""

SCRATCH = "/tmp"  # noqa: S108 (a volume of the pod's own, mounted there because programs expect it)
"""The one writable directory of a container without volumes; also its home."""


def env(values: Mapping[str, pulumi.Input[str]]) -> list[Manifest]:
    """Environment variables, in the order given."""
    return [{"name": str(name), "value": value} for name, value in values.items()]


def secret_env(secret: pulumi.Input[str], keys: Mapping[str, str]) -> list[Manifest]:
    """Environment variables by name from keys of a Secret."""
    return [{"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}} for name, key in keys.items()]


def resources(cpu: str, cpu_limit: str, memory: str) -> Manifest:
    """Requests and limits: cores may burst, memory may not."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu_limit, "memory": memory}}


def container(
    name: str,
    image: pulumi.Input[str],
    resources: Manifest,
    mounts: Mapping[str, str],
    **fields: object,
) -> Manifest:
    """A container under `restricted`. `mounts` are paths by volume; `fields` go into it as they are."""
    return {
        "name": name,
        "image": image,
        # By digest: what is there is what is meant, and a node without a registry must not ask for one.
        "imagePullPolicy": "IfNotPresent",
        "resources": resources,
        "securityContext": container_security_context(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in mounts.items()],
        **fields,
    }


@dataclass(frozen=True, kw_only=True)
class Pod:
    """What varies between our pods."""

    labels: Labels
    containers: Sequence[Manifest]
    volumes: Mapping[str, Manifest] = field(default_factory=dict)
    """Volume sources by name."""
    annotations: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    service_account: pulumi.Input[str] | None = None
    grace_seconds: int = 30
    """Time between SIGTERM and SIGKILL."""
    extra: Manifest = field(default_factory=dict)
    """Fields of the pod's spec that only this one has."""

    def template(self) -> Manifest:
        """Pod template: no API token, no variables from neighbouring Services, `restricted`."""
        spec: Manifest = {
            "automountServiceAccountToken": False,
            # Variables like MLFLOW_PORT=tcp://… of a Service named mlflow would configure the programs inside.
            "enableServiceLinks": False,
            "securityContext": pod_security_context(),
            "terminationGracePeriodSeconds": self.grace_seconds,
            "containers": list(self.containers),
            "volumes": [{"name": name, **source} for name, source in self.volumes.items()],
            **self.extra,
        }
        if self.service_account is not None:
            spec["serviceAccountName"] = self.service_account
        described: Manifest = {"labels": dict(self.labels)}
        if self.annotations:
            described["annotations"] = dict(self.annotations)
        return {"metadata": described, "spec": spec}


def singleton(name: str, namespace: pulumi.Input[str], pod: Pod, selector: Labels | None = None) -> Manifest:
    """A Deployment of one pod that owns its volumes: the old one ends before the new one starts.

    `selector` are the labels that never change, all of the pod's unless said.
    """
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name, namespace, pod.labels),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": dict(selector or pod.labels)},
            "template": pod.template(),
        },
    }


def job(name: str, namespace: pulumi.Input[str], pod: Pod, within_seconds: int) -> Manifest:
    """A Job that ends well within the time or fails; its pod is retried until then."""
    template = pod.template()
    template["spec"]["restartPolicy"] = "OnFailure"
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(name, namespace, pod.labels),
        "spec": {"backoffLimit": 10, "activeDeadlineSeconds": within_seconds, "template": template},
    }


def cron_job(name: str, namespace: pulumi.Input[str], pod: Pod, schedule: Manifest, job: Manifest) -> Manifest:
    """A CronJob of which one Job runs at a time.

    `schedule` and `job` are fields of the CronJob's spec and of its Jobs'. A pod that ended stays as it is, to be
    looked at, and another takes its place.
    """
    template = pod.template()
    template["spec"]["restartPolicy"] = "Never"
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": metadata(name, namespace, pod.labels, pod.annotations),
        "spec": {
            "concurrencyPolicy": "Forbid",
            **schedule,
            "jobTemplate": {
                "metadata": {"labels": dict(pod.labels)},
                "spec": {**job, "template": template},
            },
        },
    }


def service(name: str, namespace: pulumi.Input[str], labels: Labels, ports: Mapping[str, int]) -> Manifest:
    """A Service of the pods with the labels; each port goes to the container port of the same name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, namespace, labels),
        "spec": {
            "type": "ClusterIP",
            "selector": dict(labels),
            "ports": [
                {
                    "name": port,
                    "port": number,
                    "targetPort": port,
                    "protocol": "TCP",
                    "appProtocol": GRPC if port == GRPC else "http",  # the mesh reads the protocol from here
                }
                for port, number in ports.items()
            ],
        },
    }


def service_account(name: str, namespace: pulumi.Input[str], labels: Labels) -> Manifest:
    """An identity of its own, without a token in the pod."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(name, namespace, labels),
        "automountServiceAccountToken": False,
    }


def disruption_budget(name: str, namespace: pulumi.Input[str], labels: Labels) -> Manifest:
    """At most one pod is evicted at a time, and one that is not ready anyway always may be.

    `maxUnavailable` and not `minAvailable`: a single replica must not block the drain of its node.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(name, namespace, labels),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": dict(labels)},
        },
    }


def volume_claim(name: str, namespace: pulumi.Input[str], labels: Labels, size: str) -> Manifest:
    """A volume of the cluster's default storage class, for one node at a time."""
    # With a class that binds on first use a claim stays Pending until its pod comes; the pod's readiness tells.
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(name, namespace, labels, {"pulumi.com/skipAwait": "true"}),
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
    }


def secret(name: str, namespace: pulumi.Input[str], values: Mapping[str, pulumi.Input[str]]) -> Manifest:
    """A Secret. The values must be Pulumi secrets: only then are they encrypted in the state."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(name, namespace),
        "type": "Opaque",
        "stringData": dict(values),
    }


def namespace(name: str, labels: Labels) -> Manifest:
    """A namespace with its Pod Security labels."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata(name, labels=labels)}


def config_map(name: str, namespace: pulumi.Input[str], labels: Labels, data: Mapping[str, str]) -> Manifest:
    """Files for a pod."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(name, namespace, labels),
        "data": dict(data),
    }
