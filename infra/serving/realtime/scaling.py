"""How a release's replicas follow its load. Pure data, no resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.k8s.manifest import Manifest, metadata

if TYPE_CHECKING:
    from infra.config.models import ScaleDownConfig, ScaleUpConfig, ScalingConfig
    from infra.serving.realtime.release import ReleaseSpec

REQUESTS_PER_SECOND = "requests_per_second"
"""The Pods metric that the monitoring add-on's adapter makes of the service's request counter."""


def autoscaler(spec: ReleaseSpec, deployment: str, container: str) -> Manifest:
    """A HorizontalPodAutoscaler of the release's Deployment, by what its pods' container takes."""
    scaling = spec.settings.scaling
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(spec.name, spec.namespace, spec.labels),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment},
            "minReplicas": scaling.min,
            "maxReplicas": scaling.max,
            "metrics": _metrics(scaling, container),
            "behavior": {"scaleUp": _pace(scaling.up, "Max"), "scaleDown": _pace(scaling.down, "Max")},
        },
    }


def _metrics(scaling: ScalingConfig, container: str) -> list[Manifest]:
    found: list[Manifest] = []
    if scaling.cpu is not None:
        target = {"type": "Utilization", "averageUtilization": scaling.cpu}
        # Of the container: the percentage of a whole pod counts what a sidecar asks for.
        metric = {"name": "cpu", "container": container, "target": target}
        found.append({"type": "ContainerResource", "containerResource": metric})
    if scaling.requests_per_second is not None:
        # In thousandths, for the API server keeps quantities in its own spelling and another would show as a change.
        target = {"type": "AverageValue", "averageValue": _quantity(scaling.requests_per_second)}
        found.append({"type": "Pods", "pods": {"metric": {"name": REQUESTS_PER_SECOND}, "target": target}})
    return found


def _quantity(value: float) -> str:
    """A number as the API server spells it."""
    return str(int(value)) if value == int(value) else f"{round(value * 1000)}m"


def _pace(pace: ScaleUpConfig | ScaleDownConfig, select: str) -> Manifest:
    policies = [{"type": "Percent", "value": pace.percent, "periodSeconds": pace.seconds}]
    # A percentage of few replicas is less than one: one may always come or go.
    policies.append({"type": "Pods", "value": 1, "periodSeconds": pace.seconds})
    return {"stabilizationWindowSeconds": pace.wait_seconds, "selectPolicy": select, "policies": policies}
