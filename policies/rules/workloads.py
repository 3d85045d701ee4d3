"""Rules about what runs in pods."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from policies.rules.rule import Properties, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

BY_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")

GPU = "nvidia.com/gpu"

LONG_RUNNING = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
"""Kinds whose pods should never end; only they need probes."""


def pods(resource_type: str, properties: Properties) -> list[Properties]:
    """The kinds of pods that a resource makes; none for most."""
    kind = resource_type.rpartition(":")[2]
    spec = properties.get("spec") or {}
    if not resource_type.startswith("kubernetes:"):
        return []
    if kind == "Pod":
        return [spec]
    if kind == "RayJob":
        cluster = spec.get("rayClusterSpec") or {}
        makers = [cluster.get("headGroupSpec") or {}, *(cluster.get("workerGroupSpecs") or [])]
    elif kind == "CronJob":
        makers = [(spec.get("jobTemplate") or {}).get("spec") or {}]
    elif kind in LONG_RUNNING | {"Job", "ReplicaSet"}:
        makers = [spec]
    else:
        makers = []
    return [(maker.get("template") or {}).get("spec") or {} for maker in makers]


def containers(pod: Properties) -> Iterator[tuple[str, Properties]]:
    """Containers of a pod with their names, those that initialise it included."""
    for field in ("initContainers", "containers"):
        for container in pod.get(field) or []:
            yield str(container.get("name")), container


def _all_containers(resource_type: str, properties: Properties) -> Iterator[tuple[str, Properties]]:
    for pod in pods(resource_type, properties):
        yield from containers(pod)


def _images(resource_type: str, properties: Properties) -> list[str]:
    return [
        f"container {name} has image {container.get('image')}"
        for name, container in _all_containers(resource_type, properties)
        if not BY_DIGEST.search(str(container.get("image")))
    ]


def _limits(resource_type: str, properties: Properties) -> list[str]:
    found = []
    for name, container in _all_containers(resource_type, properties):
        resources = container.get("resources") or {}
        demanded = (("requests", "cpu"), ("requests", "memory"), ("limits", "cpu"), ("limits", "memory"))
        missing = [f"{kind}.{what}" for kind, what in demanded if not (resources.get(kind) or {}).get(what)]
        if missing:
            found.append(f"container {name} has no {', '.join(missing)}")
    return found


def _probes(resource_type: str, properties: Properties) -> list[str]:
    if resource_type.rpartition(":")[2] not in LONG_RUNNING:
        return []
    found = []
    for container in (each for pod in pods(resource_type, properties) for each in pod.get("containers") or []):
        missing = [probe for probe in ("readinessProbe", "livenessProbe") if not container.get(probe)]
        if missing:
            found.append(f"container {container.get('name')} has no {', '.join(missing)}")
    return found


def _restricted(resource_type: str, properties: Properties) -> list[str]:
    found = []
    for pod in pods(resource_type, properties):
        shared = pod.get("securityContext") or {}
        host = [field for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)]
        found += [f"the pod has {', '.join(host)}"] if host else []
        for name, container in containers(pod):
            wrong = _loose(shared, container.get("securityContext") or {})
            if wrong:
                found.append(f"container {name} {', '.join(wrong)}")
    return found


def _loose(shared: Properties, own: Properties) -> list[str]:
    """What a container may do that it should not; `shared` is its pod's security context."""

    def effective(field: str) -> Any:
        return own.get(field, shared.get(field))

    seccomp = (effective("seccompProfile") or {}).get("type")
    dropped = (own.get("capabilities") or {}).get("drop") or []
    checks = {
        "is privileged": bool(own.get("privileged")),
        "may run as root": effective("runAsNonRoot") is not True,
        "may gain privileges": own.get("allowPrivilegeEscalation") is not False,
        "keeps capabilities": "ALL" not in dropped,
        "has no seccomp profile": seccomp not in {"RuntimeDefault", "Localhost"},
        "can write its root file system": own.get("readOnlyRootFilesystem") is not True,
    }
    return [wrong for wrong, is_so in checks.items() if is_so]


def _gpu_toleration(resource_type: str, properties: Properties) -> list[str]:
    return [
        f"container {name} has a {GPU} limit and its pod no toleration"
        for pod in pods(resource_type, properties)
        for name, container in containers(pod)
        if (((container.get("resources") or {}).get("limits") or {}).get(GPU)) and not _tolerates_gpus(pod)
    ]


def _tolerates_gpus(pod: Properties) -> bool:
    return any(
        each.get("effect") in {None, "NoSchedule"} and each.get("key") in {GPU, None}
        for each in pod.get("tolerations") or []
    )


IMAGE_BY_DIGEST = Rule(
    name="image-by-digest",
    description="Images are named by digest: a tag can move, and what runs would then not be what was tested.",
    remedy="name the image as <repository>@sha256:<digest>; `slipway images build` records the digests",
    check=_images,
)

RESOURCE_LIMITS = Rule(
    name="resource-limits",
    description="Every container has requests and limits for cores and memory: one must not starve the others.",
    remedy="set `resources` of the release, or requests and limits of the container",
    check=_limits,
)

PROBES = Rule(
    name="probes",
    description="Every serving container has a readiness and a liveness probe: the gateway and the kubelet ask them.",
    remedy="add the probes; for the inference service they are /v2/health/ready and /v2/health/live",
    check=_probes,
)

RESTRICTED = Rule(
    name="restricted",
    description="Every container runs under the restricted Pod Security Standard with a read-only root file system.",
    remedy="use infra.k8s.security's contexts",
    check=_restricted,
)

GPU_TOLERATION = Rule(
    name="gpu-toleration",
    description="A pod that asks for a GPU tolerates the taint of GPU nodes; else it waits forever.",
    remedy=f"add a toleration of {GPU} with effect NoSchedule to the pod",
    check=_gpu_toleration,
)
