"""KServe's controller in Standard mode: InferenceServices become Deployments and Services, and no more.

Routes and traffic are ours (`infra.serving.realtime`), so KServe's own ingress is off, and with it everything of
Knative. A release's `storageUri` is its `models:/name/version`: KServe injects a storage initializer, which is the
inference image with another command. Without a `storageUri` KServe would take the release for a multi-model server.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.certificate import ServingCertificate
from infra.k8s import helm, network, probes, rbac, webhooks, workloads
from infra.k8s.manifest import Manifest, declare, metadata, name_of
from infra.k8s.namespaces import isolated
from infra.outputs import Kserve, Namespaces
from services.contract import STORAGE_MODULE, Env

if TYPE_CHECKING:
    from infra.config.addons import KserveConfig

MODE = "Standard"
"""Of v0.20 and newer; before that it was called RawDeployment, which v0.20 still understands and calls deprecated."""

MODE_ANNOTATION = "serving.kserve.io/deploymentMode"

GROUP = "serving.kserve.io"
WEBHOOK_PORT, HEALTH_PORT = 9443, 8081
CERTIFICATES = "/tmp/k8s-webhook-server/serving-certs"  # noqa: S108 (controller-runtime's default)

LABELS = {names.LABEL_NAME: names.KSERVE, "control-plane": "kserve-controller-manager"}
"""The second keeps KServe's own webhook from pods of this namespace, as upstream does."""

SERVICE = (names.KSERVE, names.KSERVE_NAMESPACE)

STARTUP_SECONDS = 120

SIDECAR = {"cpuRequest": "10m", "cpuLimit": "1", "memoryRequest": "64Mi", "memoryLimit": "256Mi"}
"""KServe reads limits of the containers it could inject and refuses every pod without them; it injects none here."""

STATUS = ("get", "patch", "update")


@dataclass(frozen=True, kw_only=True)
class KserveArgs:
    """What KServe is made from."""

    config: KserveConfig
    image: str
    storage_image: str
    """The inference service's, which knows how models are fetched."""
    namespaces: Namespaces
    mlflow_url: pulumi.Input[str]
    after: pulumi.Resource | None = None
    """KEDA, where the stack has it: the controller looks only at its start which kinds there are."""


class KserveController(pulumi.ComponentResource):
    """Kinds, controller and webhooks."""

    kserve: Kserve

    def __init__(self, name: str, args: KserveArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:addons:Kserve", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        namespace = isolated(names.KSERVE_NAMESPACE, child)
        kinds = helm.release(
            f"{name}-kinds", f"{args.config.charts}/kserve-crd-minimal", namespace, child, name="kserve-crd"
        )
        account = name_of(declare(name, workloads.service_account(name, namespace, LABELS), child))
        rights = [
            declare(f"{name}-{kind}", manifest, child)
            for kind, manifest in rights_manifests(account, namespace, args.namespaces.models).items()
        ]
        config = declare(name, workloads.config_map(CONFIG_NAME, namespace, LABELS, configuration()), child)
        certificate = ServingCertificate(name, [names.webhook_host(names.KSERVE, names.KSERVE_NAMESPACE)], child)
        secret = declare(name, webhooks.tls_secret(name, namespace, certificate.certificate, certificate.key), child)
        declare(f"{name}-policy", network_policy(namespace), child)
        first = [kinds, config, *rights, *([args.after] if args.after else [])]
        controller = declare(
            name,
            controller_manifest(args.image, namespace, account, name_of(secret), certificate.certificate),
            pulumi.ResourceOptions(parent=self, depends_on=first),
        )
        service = declare(
            name,
            webhooks.service(names.KSERVE, namespace, LABELS),
            pulumi.ResourceOptions(parent=self, depends_on=[controller]),
        )
        hooks = [
            declare(f"{name}-{kind}", manifest, pulumi.ResourceOptions(parent=self, depends_on=[service]))
            for kind, manifest in webhook_manifests(certificate.ca).items()
        ]
        storage = declare(
            f"{name}-storage",
            storage_container(args.storage_image, args.mlflow_url),
            pulumi.ResourceOptions(parent=self, depends_on=hooks),
        )
        self.kserve = Kserve(ready=(*hooks, storage))
        self.register_outputs({})


CONFIG_NAME = "inferenceservice-config"
"""The name that the controller looks for, in its own namespace."""


def configuration() -> dict[str, str]:
    """What the controller reads: the mode, no ingress of its own, no sidecars."""
    settings = {
        "deploy": {"defaultDeploymentMode": MODE},
        "ingress": {
            # Asked for, though nothing is made with it: we route.
            "ingressGateway": f"{names.INGRESS_NAMESPACE}/{names.GATEWAY}",
            "disableIngressCreation": True,
            "disableIstioVirtualHost": True,
            "enableGatewayApi": False,
            "ingressClassName": "istio",
        },
        "storageInitializer": {"image": "none", **SIDECAR, "enableModelcar": False},
        "agent": {"image": "none", **SIDECAR},
        "batcher": {"image": "none", **SIDECAR},
        "logger": {"image": "none", **SIDECAR, "defaultUrl": "http://none"},
        "router": {"image": "none", **SIDECAR},
        "metricsAggregator": {"enableMetricAggregation": "false", "enablePrometheusScraping": "false"},
        "localModel": {"enabled": False},
        "security": {"autoMountServiceAccountToken": False},
        "service": {"serviceClusterIPNone": False},
    }
    return {key: json.dumps(value) for key, value in settings.items()}


def storage_container(image: str, mlflow_url: pulumi.Input[str]) -> Manifest:
    """What fetches the artifact of a `storageUri` that begins with `models:/`."""
    container = workloads.container(
        "storage-initializer",
        image,
        workloads.resources(cpu="100m", cpu_limit="1", memory="512Mi"),
        {},
        command=["python", "-m", STORAGE_MODULE],
        env=workloads.env({Env.MLFLOW_TRACKING_URI: mlflow_url, Env.MLFLOW_DIRECT_DOWNLOAD: "false"}),
    )
    # KServe adds arguments and mount; an empty list of its own would be one more.
    del container["volumeMounts"]
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "ClusterStorageContainer",
        "metadata": metadata(names.KSERVE_STORAGE),
        "spec": {
            "container": container,
            "supportedUriFormats": [{"prefix": "models:/"}],
            "workloadType": "initContainer",
        },
    }


def rights_manifests(
    account: pulumi.Input[str], namespace: pulumi.Input[str], models: pulumi.Input[str]
) -> dict[str, Manifest]:
    """The controller's rights: its informers see every namespace, secrets and settings it reads where models are."""
    subject = rbac.service_account(account, names.KSERVE_NAMESPACE)
    kinds = ("clusterservingruntimes", "inferencegraphs", "inferenceservices", "servingruntimes", "trainedmodels")
    everywhere = [
        rbac.rule(GROUP, [*kinds, *(f"{kind}/finalizers" for kind in kinds), "clusterstoragecontainers"], rbac.OWN),
        rbac.rule(GROUP, [f"{kind}/status" for kind in kinds], STATUS),
        rbac.rule("", ["events", "services"], rbac.OWN),
        rbac.rule("", ["namespaces", "pods"], rbac.READ),
        rbac.rule("apps", ["deployments"], rbac.OWN),
        rbac.rule("autoscaling", ["horizontalpodautoscalers"], rbac.OWN),
        rbac.rule("networking.k8s.io", ["ingresses"], rbac.OWN),
        rbac.rule("networking.istio.io", ["virtualservices"], rbac.OWN),
        rbac.rule("keda.sh", ["scaledobjects", "scaledobjects/finalizers"], rbac.OWN),
        rbac.rule("keda.sh", ["scaledobjects/status"], STATUS),
    ]
    reading = [
        rbac.rule("", ["configmaps"], ("create", "get", "update")),
        rbac.rule("", ["secrets", "serviceaccounts"], ("get",)),
    ]
    return {
        "role": rbac.cluster_role(names.KSERVE, everywhere),
        "binding": rbac.cluster_role_binding(names.KSERVE, names.KSERVE, subject),
        "settings-role": rbac.role(names.KSERVE, namespace, [reading[0]]),
        "settings": rbac.role_binding(names.KSERVE, namespace, names.KSERVE, subject),
        "models-role": rbac.role(names.KSERVE, models, reading),
        "models": rbac.role_binding(names.KSERVE, models, names.KSERVE, subject),
    }


def controller_manifest(
    image: str,
    namespace: pulumi.Input[str],
    account: pulumi.Input[str],
    secret: pulumi.Input[str],
    certificate: pulumi.Output[str],
) -> Manifest:
    """The Deployment of the controller."""
    container = workloads.container(
        "manager",
        image,
        workloads.resources(cpu="20m", cpu_limit="1", memory="300Mi"),
        {"certificate": CERTIFICATES},
        args=["--metrics-addr=0"],
        env=[{"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}],
        ports=[
            {"name": webhooks.PORT_NAME, "containerPort": WEBHOOK_PORT},
            {"name": "health", "containerPort": HEALTH_PORT},
        ],
        startupProbe=probes.startup("/readyz", "health", within=STARTUP_SECONDS),
        readinessProbe=probes.readiness("/readyz", "health"),
        livenessProbe=probes.liveness("/healthz", "health"),
    )
    settings = json.dumps(configuration(), sort_keys=True)
    pod = workloads.Pod(
        labels=LABELS,
        annotations={names.ANNOTATION_CONFIG_DIGEST: webhooks.digest(certificate, settings)},
        containers=[container],
        volumes={"certificate": {"secret": {"secretName": secret}}},
        service_account=account,
        extra={"automountServiceAccountToken": True},
    )
    return workloads.singleton(names.KSERVE, namespace, pod)


def webhook_manifests(authority: pulumi.Output[str]) -> dict[str, Manifest]:
    """Defaults for InferenceServices and their pods; checks of each kind."""

    def hook(kind: str, action: str, version: str) -> Manifest:
        path = f"/{action}-serving-kserve-io-{version}-{kind}"
        rule = webhooks.rule(GROUP, version, f"{kind}s", ["CREATE", "UPDATE"])
        return webhooks.webhook(f"{kind}.{action}.{GROUP}", SERVICE, path, authority, rule)

    created = webhooks.rule("", "v1", "pods", ["CREATE"])
    pods = webhooks.webhook(f"pod.mutate.{GROUP}", SERVICE, "/mutate-pods", authority, created)
    # Only pods of InferenceServices: a controller that is down must not keep others from starting.
    pods["objectSelector"] = {"matchExpressions": [{"key": f"{GROUP}/inferenceservice", "operator": "Exists"}]}
    pods["reinvocationPolicy"] = "IfNeeded"
    validating = (
        ("inferenceservice", "v1beta1"),
        ("clusterservingruntime", "v1alpha1"),
        ("servingruntime", "v1alpha1"),
        ("inferencegraph", "v1alpha1"),
        ("trainedmodel", "v1alpha1"),
    )
    return {
        "mutating": webhooks.configuration(
            "Mutating", f"slipway-{names.KSERVE}", [hook("inferenceservice", "mutate", "v1beta1"), pods]
        ),
        "validating": webhooks.configuration(
            "Validating",
            f"slipway-{names.KSERVE}",
            [hook(kind, "validate", version) for kind, version in validating],
        ),
    }


def network_policy(namespace: pulumi.Input[str]) -> Manifest:
    """The API server calls the webhooks from outside any namespace; the controller asks the API server."""
    return network.allow(
        names.KSERVE,
        namespace,
        LABELS,
        ingress=[network.flow("from", [], [WEBHOOK_PORT])],
        egress=[network.flow("to", [], network.API_SERVER_PORTS)],
    )
