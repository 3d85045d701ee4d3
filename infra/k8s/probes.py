"""Probes of HTTP services. All times are in seconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.k8s.manifest import Manifest

STARTUP_PERIOD = 2
"""How often a starting container is asked: half of it is the average delay it adds to a rollout."""


def http_get(path: str, port: str, scheme: str | None = None) -> Manifest:
    """Handler of a probe against a named port; `scheme` is `HTTPS` where it does not speak plain HTTP."""
    return {"httpGet": {"path": path, "port": port, **({"scheme": scheme} if scheme else {})}}


def startup(path: str, port: str, within: int) -> Manifest:
    """Gives the container `within` seconds to answer; then the kubelet restarts it."""
    return {
        **http_get(path, port),
        "periodSeconds": STARTUP_PERIOD,
        "timeoutSeconds": 2,
        "failureThreshold": math.ceil(within / STARTUP_PERIOD),
    }


def readiness(path: str, port: str, scheme: str | None = None) -> Manifest:
    """Takes a pod out of its Service after 6 to 9 seconds without an answer, and back at the first one."""
    return {**http_get(path, port, scheme), "periodSeconds": 3, "timeoutSeconds": 2, "failureThreshold": 3}


def liveness(path: str, port: str, scheme: str | None = None) -> Manifest:
    """Restarts a container after a minute without an answer: slow is not dead."""
    return {**http_get(path, port, scheme), "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6}
