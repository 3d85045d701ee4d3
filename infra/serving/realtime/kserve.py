"""A release as KServe's InferenceService, with a ServingRuntime of ours. Pure data, no resources.

Our own Service selects the pods and our own routes reach it, so that traffic is the same as for any other runtime:
KServe's canary is not used, which its Standard mode ignores without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.k8s.manifest import Manifest, metadata
from infra.serving.realtime.release import model_labels, served

if TYPE_CHECKING:
    import pulumi

    from infra.serving.realtime.release import ReleaseSpec

SERVING = "serving.kserve.io"

FORMAT = "slipway"
"""The model format that our ServingRuntime takes: all that the inference service reads."""

CONTAINER = "kserve-container"
"""Name that KServe looks for in a runtime and in its pods."""

PREDICTOR = "-predictor"
"""What KServe adds to an InferenceService's name for its Deployment and Service."""

MODES = {"standard": "Standard", "knative": "Knative"}
"""As KServe 0.20 spells them. The validator compares letter by letter: older names pass, and lose their metrics."""


OF_A_RELEASE = ("env", "image", "resources")
"""What a release says of its container; the rest is the runtime's."""


def serving_runtime(name: str, spec: ReleaseSpec, pod: Manifest) -> Manifest:
    """What runs the releases of a model; `pod` is the spec of any of its pods."""
    (container,) = pod["containers"]
    shared = {key: value for key, value in container.items() if key not in OF_A_RELEASE}
    return {
        "apiVersion": f"{SERVING}/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": metadata(name, spec.namespace, model_labels(spec.model)),
        "spec": {
            "supportedModelFormats": [{"name": FORMAT, "version": "1", "autoSelect": False}],
            "protocolVersions": ["v1", "v2"],
            "multiModel": False,
            "containers": [{**shared, "name": CONTAINER, "image": container["image"]}],
            "volumes": pod["volumes"],
        },
    }


def inference_service(spec: ReleaseSpec, runtime: pulumi.Input[str], pod: Manifest) -> Manifest:
    """One release, of pods with that spec. Pulumi waits until KServe says Ready."""
    settings = spec.settings
    scaling = settings.scaling
    mode = "knative" if settings.knative else "standard"
    annotations: dict[str, pulumi.Input[str]] = {
        f"{SERVING}/deploymentMode": MODES[mode],
        "pulumi.com/waitFor": "condition=Ready",
        **served(spec.resolved),
    }
    (container,) = pod["containers"]
    predictor: Manifest = {
        **{key: value for key, value in pod.items() if key not in ("containers", "volumes")},
        "minReplicas": scaling.min,
        "maxReplicas": scaling.max or max(scaling.min, 1),
        "model": {
            "modelFormat": {"name": FORMAT, "version": "1"},
            "runtime": runtime,
            "storageUri": spec.resolved.uri,
            **{key: container[key] for key in OF_A_RELEASE},
        },
        "labels": spec.pod_labels,
        "annotations": spec.pod_annotations,
    }
    if mode == "standard":
        # An autoscaler of ours, which knows requests per second and its pace; KServe's knows neither.
        annotations[f"{SERVING}/autoscalerClass"] = "external" if scaling.automatic else "none"
        predictor["deploymentStrategy"] = {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        }
    elif scaling.cpu is not None:
        predictor |= {"scaleMetric": "cpu", "scaleTarget": scaling.cpu}
    elif scaling.requests_per_second is not None:
        predictor |= {"scaleMetric": "rps", "scaleTarget": max(1, round(scaling.requests_per_second))}
    return {
        "apiVersion": f"{SERVING}/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata(spec.name, spec.namespace, spec.labels, annotations),
        "spec": {"predictor": predictor},
    }
