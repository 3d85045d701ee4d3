"""What Prometheus scrapes: pods of the models' namespace that are a release's, the gateway, and what tells of GPUs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from infra import names
from infra.telemetry.queries import GATEWAY_JOB, GATEWAY_METRICS, MODELS_JOB
from services.contract import HTTP_PORT, Route

if TYPE_CHECKING:
    from collections.abc import Mapping

GATEWAY_METRICS_PORT = 15090
"""Where Istio's bootstrap has Envoy serve its metrics."""

SIDECAR_METRICS_PORT = 15020
"""Where Istio's agent tells the metrics of the pod that it is a sidecar of, beside its own."""

SIDECAR_METRICS_PATH = "/stats/prometheus"

GPUS_JOB = "gpus"
GPU_SECONDS = 30
"""Between two looks of NVIDIA's exporter."""

EVALUATION_SECONDS = 15
"""Between two evaluations of the rules: quick beside the five minutes of the shortest window."""

RELEASE_OF_CLUSTER = (
    rf"outbound\|\d+\|[^|]*\|(.+)-([a-z0-9]+)\.{re.escape(names.MODELS_NAMESPACE)}\.svc\.cluster\.local"
)
"""Model and release in Envoy's name of a release's Service; a release's name has no hyphen, so it splits one way."""


def prometheus_config(scrape_seconds: int, gpus: tuple[str, int] | None = None) -> dict[str, Any]:
    """Prometheus' configuration file; the rules lie beside it. `gpus` are namespace and port of what tells of them."""
    return {
        "global": {
            "scrape_interval": f"{scrape_seconds}s",
            "scrape_timeout": f"{scrape_seconds}s",
            "evaluation_interval": f"{EVALUATION_SECONDS}s",
        },
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": MODELS_JOB, **_pods(names.MODELS_NAMESPACE), **MODELS_SCRAPE, "relabel_configs": MODELS_PODS},
            {
                "job_name": GATEWAY_JOB,
                **_pods(names.INGRESS_NAMESPACE),
                **GATEWAY_SCRAPE,
                "relabel_configs": GATEWAY_PODS,
            },
            *([] if gpus is None else [_gpus(*gpus)]),
        ],
    }


def _pods(namespace: str) -> dict[str, Any]:
    return {"kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": [namespace]}}]}


def _gpus(namespace: str, port: int) -> dict[str, Any]:
    """Once in `GPU_SECONDS`: what the exporter itself asks its GPUs for."""
    return {
        "job_name": GPUS_JOB,
        "scrape_interval": f"{GPU_SECONDS}s",
        **_pods(namespace),
        "relabel_configs": [RUNS, _keep("__meta_kubernetes_pod_container_port_number", str(port)), *PLACE],
        "metric_relabel_configs": [_keep("__name__", "DCGM_.+")],
    }


def _meta(label: str) -> str:
    """Service discovery's name of a pod's label."""
    return f"__meta_kubernetes_pod_label_{re.sub(r'[^a-zA-Z0-9_]', '_', label)}"


def _keep(source: str, pattern: str) -> Mapping[str, Any]:
    return {"action": "keep", "source_labels": [source], "regex": pattern}


def _label(source: str, target: str) -> Mapping[str, Any]:
    return {"source_labels": [source], "target_label": target}


def _in_the_mesh(source: str, target: str, replacement: str) -> Mapping[str, Any]:
    """For pods with a sidecar: istiod labels them so when it gives them one."""
    sources = [_meta("security.istio.io/tlsMode"), source]
    return {"source_labels": sources, "regex": "istio;(.+)", "replacement": replacement, "target_label": target}


RUNS = {"action": "drop", "source_labels": ["__meta_kubernetes_pod_phase"], "regex": "Succeeded|Failed"}
PLACE = (
    _label("__meta_kubernetes_namespace", "namespace"),
    _label("__meta_kubernetes_pod_name", "pod"),
)

MODELS_PODS = [
    RUNS,
    _keep(_meta(names.LABEL_RELEASE), ".+"),
    _keep("__meta_kubernetes_pod_container_port_number", str(HTTP_PORT)),
    _in_the_mesh("__meta_kubernetes_pod_ip", "__address__", f"$1:{SIDECAR_METRICS_PORT}"),
    _in_the_mesh("__metrics_path__", "__metrics_path__", SIDECAR_METRICS_PATH),
    *PLACE,
    _label(_meta(names.LABEL_MODEL), "model"),
    _label(_meta(names.LABEL_RELEASE), "release"),
]
"""One target for each pod of a release: by its HTTP port, or where its sidecar tells what is found there."""

MODELS_SCRAPE = {
    "metrics_path": str(Route.METRICS),
    # The service's own `model` and `release` stand: a process may serve several models.
    "honor_labels": True,
    "metric_relabel_configs": [{"action": "drop", "source_labels": ["__name__"], "regex": "(envoy|istio)_.+"}],
}

GATEWAY_PODS = [RUNS, _keep("__meta_kubernetes_pod_container_port_number", str(GATEWAY_METRICS_PORT)), *PLACE]

GATEWAY_SCRAPE = {
    "metrics_path": "/stats/prometheus",
    "metric_relabel_configs": [
        _keep("__name__", "|".join(GATEWAY_METRICS)),
        _keep("cluster_name", RELEASE_OF_CLUSTER),
        *(
            {"source_labels": ["cluster_name"], "regex": RELEASE_OF_CLUSTER, "replacement": group, "target_label": name}
            for name, group in (("model", "$1"), ("release", "$2"))
        ),
    ],
}
