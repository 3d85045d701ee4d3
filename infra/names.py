"""Names of what a stack declares: one function or constant each, shared by components, tests and policies.

Names need no truncation: the configuration bounds a model to 40 and a release to 20
characters, so that `<model>-<release>` fits the 63 of a DNS label with room for nothing else.
"""

from __future__ import annotations

PLATFORM_NAMESPACE = "slipway-platform"
"""What the environment itself runs: S3 and MLflow."""

MODELS_NAMESPACE = "slipway-models"
"""Every release of every model."""

ISTIO_NAMESPACE = "istio-system"
"""The mesh's control plane."""

INGRESS_NAMESPACE = "istio-ingress"
"""The gateway."""

ISTIO_BASE = "istio-base"
ISTIOD = "istiod"
ISTIOD_LABELS = {"app": ISTIOD}
"""That its chart puts on its pods."""

INGRESS = "istio-ingress"
"""The gateway's Helm release, Deployment and Service; its pods carry `istio: ingress`."""

GATEWAY = "slipway"
"""The Istio `Gateway` object that all routes bind to."""

OBJECT_STORE = "object-store"
"""S3 of the local platform: Deployment, Service, volume."""

MLFLOW = "mlflow"
"""The MLflow server: Deployment, Service, route; also the user that it has in S3."""

PROMETHEUS = "prometheus"
"""Prometheus: Deployment, Service, route, volume; also its policies and rights in the namespaces it scrapes."""


def prometheus_files(digest: str) -> str:
    """ConfigMap with Prometheus' files: others are another object, so that the old pod keeps what it started with."""
    return f"{PROMETHEUS}-{digest[:8]}"


PROMETHEUS_ADAPTER = "prometheus-adapter"
"""What answers the custom metrics API from Prometheus."""

KSERVE_NAMESPACE = "kserve"
KSERVE = "kserve"
"""KServe's controller: Deployment, webhook Service, rights."""

KSERVE_STORAGE = "slipway"
"""ClusterStorageContainer that fetches models of the registry."""

KEDA_NAMESPACE = "keda"
KEDA = "keda"
"""KEDA's account, rights and certificate."""

KEDA_OPERATOR = "keda-operator"
KEDA_METRICS_API = "keda-metrics-api"

KUBERAY_NAMESPACE = "kuberay"
KUBERAY = "kuberay"
"""KubeRay's operator: Deployment, account, rights."""

KAFKA = "kafka"
"""The broker of the local platform: StatefulSet, Service, policies; prefix of its users' Secrets."""

TOPICS = "topics"
"""What declares topics and rights: Job and its list."""

LABEL_KAFKA_CLIENT = "slipway.dev/kafka-client"
"""Pods with this label set to `true`, in the models' namespace, may reach the platform's Kafka."""

ISTIO_CNI_NAMESPACE = "istio-cni"
ISTIO_CNI = "istio-cni"
"""What sends a pod's traffic through its sidecar, on every node: chart, image, policy."""

GPUS_NAMESPACE = "nvidia"
"""What tells of GPUs, on platforms that run it."""

MODELS_BUCKET = "slipway-models"
"""Bucket of the model artifacts on the local platform."""

FEATURES_BUCKET = "slipway-features"
PREDICTIONS_BUCKET = "slipway-predictions"
"""Buckets that batch models read and write on the local platform."""

BATCH = "batch"
"""The user that batch models have in the local platform's S3."""

LABEL_PART_OF = "app.kubernetes.io/part-of"
LABEL_NAME = "app.kubernetes.io/name"
LABEL_MODEL = "slipway.dev/model"
LABEL_RELEASE = "slipway.dev/release"
LABEL_OBJECT_STORE_CLIENT = "slipway.dev/object-store-client"
"""Pods with this label set to `true`, in the platform's namespace or the models', may reach the platform's S3."""

LABEL_IDENTITY = "slipway.dev/identity"
"""Service account of pods that are somebody outside the cluster: network policies go by it."""

ANNOTATION_CONFIG_DIGEST = "slipway.dev/config-digest"
"""Digest of the files that a pod reads at its start: a change of them rolls it."""

ANNOTATION_MODEL_VERSION = "slipway.dev/model-version"
ANNOTATION_MODEL_DIGEST = "slipway.dev/model-digest"
ANNOTATION_MODEL_SOURCE = "slipway.dev/model-reference"

LONGEST_NAME = 63
"""Characters of a DNS label, the tightest bound on any name here."""


def workload(model: str, release: str) -> str:
    """Deployment, Service, ServiceAccount and disruption budget of a release."""
    return f"{model}-{release}"


def batch_job(model: str) -> str:
    """CronJob, ServiceAccount and network policy of a batch model: its Jobs' names are this and eleven characters."""
    return model


def launcher(model: str) -> str:
    """ServiceAccount, rights and policy of what makes the RayJobs of a batch model."""
    return f"{model}-launcher"


def stream(model: str) -> str:
    """Deployment, ServiceAccount, budget, policy and scaler of a stream model."""
    return model


def route(model: str) -> str:
    """VirtualService of a model. Its own namespace of names: releases are no VirtualServices."""
    return model


def service_host(name: str, namespace: str) -> str:
    """Fully qualified name of a Service, so that nothing depends on where it is resolved."""
    return f"{name}.{namespace}.svc.cluster.local"


def webhook_host(name: str, namespace: str) -> str:
    """Name of a Service as the API server calls it."""
    return f"{name}.{namespace}.svc"


def model_path(model: str) -> str:
    """Path below which the gateway serves a model, without the final slash."""
    return f"/models/{model}"


GRAFANA = "grafana"
"""Grafana: Helm release, Deployment, Service, route; prefix of its administrator's Secret."""


CERT_MANAGER = "cert-manager"
"""Namespace and Helm release."""

EXTERNAL_DNS = "external-dns"
"""Namespace, Helm release and account."""


def dashboard(name: str) -> str:
    """ConfigMap of a Grafana dashboard."""
    return f"dashboard-{name}"


PROMETHEUS_PATH = "/prometheus"
"""Path below which the gateway serves Prometheus, without the final slash."""

GRAFANA_PATH = "/grafana"
"""Path below which the gateway serves Grafana, without the final slash."""

MLFLOW_PATH = "/mlflow"
"""Path below which the gateway serves MLflow, without the final slash."""
