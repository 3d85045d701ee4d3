"""Why pods are not ready: the scheduler's words, or their containers' own.

Pulumi's provider tells what containers say. What no node can take has no containers: its reason is the cluster's alone.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from infra.names import MODELS_NAMESPACE, PLATFORM_NAMESPACE
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tools.kubectl import Kubectl

NAMESPACES = (PLATFORM_NAMESPACE, MODELS_NAMESPACE)

SECONDS = 15
"""For each question: who asks has bad news to tell already."""


def waiting(kubectl: Callable[[str], Kubectl]) -> list[str]:
    """A line for each of our pods that is not ready; none of a namespace that cannot be asked."""
    told = []
    for namespace in NAMESPACES:
        with contextlib.suppress(StepError):
            pods = kubectl(namespace).ask("get", "pods", "--output=json", seconds=SECONDS)
            told += reasons(json.loads(pods)["items"])
    return told


def reasons(pods: Sequence[Mapping[str, Any]]) -> list[str]:
    """The same, from the pods as Kubernetes describes them. One that has ended well or is being deleted waits for
    nothing.
    """
    return [
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}: {'; '.join(told)}"
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"] and (told := list(_told(pod.get("status") or {})))
    ]


def _told(status: Mapping[str, Any]) -> Iterator[str]:
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"{condition.get('reason', 'unscheduled')}: {condition.get('message', '')}"
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        if container.get("ready"):
            continue  # whatever it did before
        state = container.get("state") or {}
        ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            said = ended.get("message", "").strip() or ended.get("reason", "")
            yield f"container {container['name']} ended with {ended['exitCode']}: {said}"
        elif "waiting" in state:
            held = state["waiting"]
            yield f"container {container['name']} waits: {held.get('reason', '')} {held.get('message', '')}".rstrip()
        elif "running" in state:
            yield f"container {container['name']} runs and is not ready"
