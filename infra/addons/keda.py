"""KEDA: scales models to zero and by what no pod measures. It answers external.metrics.k8s.io and nothing else, so
that prometheus-adapter, which answers custom.metrics.k8s.io, stands beside it.

It is confined to the models' namespace: there it watches. Of the cluster's secrets it reads those of its own namespace.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.access import Needs
from infra.certificate import ServingCertificate
from infra.k8s import helm, network, probes, rbac, webhooks, workloads
from infra.k8s.manifest import Manifest, declare, metadata, name_of
from infra.k8s.namespaces import isolated
from infra.outputs import Kafka, KafkaScaler, Keda, Monitoring, Namespaces

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.access import Access
    from infra.config.addons import KedaConfig

GROUP, VERSION = "external.metrics.k8s.io", "v1beta1"

API_PORT, HEALTH_PORT, METRICS_SERVICE_PORT = 6443, 8081, 9666
"""Of the metrics API, of the operator's health, and where the operator hands its values to the metrics API."""

CERTIFICATES = "/certs"

OPERATOR_LABELS = {names.LABEL_NAME: names.KEDA_OPERATOR}
API_LABELS = {names.LABEL_NAME: names.KEDA_METRICS_API}

STARTUP_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class KedaArgs:
    """What KEDA is made from."""

    config: KedaConfig
    image: str
    namespaces: Namespaces
    monitoring: Monitoring | None
    """Prometheus, where models may scale by its queries."""
    access: Access
    kafka: Kafka | None = None
    """Kafka, where streams may scale by their lag."""
    lags: Mapping[str, str] = field(default_factory=dict)
    """Topics of the streams by their group."""


class KedaScaler(pulumi.ComponentResource):
    """Kinds, operator and metrics API."""

    keda: Keda

    def __init__(self, name: str, args: KedaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:addons:Keda", name, {}, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        namespace = isolated(names.KEDA_NAMESPACE, self._child)
        kinds = helm.release(f"{name}-kinds", f"{args.config.charts}/keda-crd", namespace, self._child, name="keda-crd")
        account = name_of(declare(name, workloads.service_account(names.KEDA, namespace, OPERATOR_LABELS), self._child))
        ways = {**rights_manifests(account, args.namespaces.models), **policies(args, namespace)}
        allowed = [declare(f"{name}-{kind}", manifest, self._child) for kind, manifest in ways.items()]
        certificate = ServingCertificate(name, hosts(), self._child)
        files = webhooks.tls_secret(name, namespace, certificate.certificate, certificate.key, certificate.ca)
        secret = name_of(declare(name, files, self._child))
        granted = args.access.grant(names.KEDA, namespace, Needs(measures=args.lags), self._child)
        pods = Pods(
            args=args, namespace=namespace, account=account, secret=secret, certificate=certificate.certificate,
            labels=granted.labels,
        )  # fmt: skip
        after = [kinds, *allowed, *granted.after]
        operator = self._served(names.KEDA_OPERATOR, pods.operator(), operator_service(namespace), after)
        metrics = webhooks.service(names.KEDA_METRICS_API, namespace, API_LABELS)
        answering = self._served(names.KEDA_METRICS_API, pods.metrics_api(), metrics, [operator])
        api = declare(
            name,
            webhooks.api_service(GROUP, VERSION, name_of(answering), namespace, certificate.ca),
            pulumi.ResourceOptions(parent=self, depends_on=[answering]),
        )
        self.keda = Keda(
            operator=operator, api=name_of(api), kafka_authentication=self._kafka(args, namespace, operator)
        )
        self.register_outputs({"api": self.keda.api})

    def _kafka(
        self, args: KedaArgs, namespace: pulumi.Input[str], operator: pulumi.Resource
    ) -> pulumi.Output[str] | None:
        """What ScaledObjects of streams refer to. The Secret is in this namespace, the only one where it reads any."""
        kafka = args.kafka
        if kafka is None:
            return None
        name = f"{names.KEDA}-{names.KAFKA}"
        scaler, options = kafka.scaler, pulumi.ResourceOptions(parent=self, depends_on=[operator])
        secret = None
        if scaler.secret:
            secret = name_of(declare(name, workloads.secret(name, namespace, scaler.secret), self._child))
        return name_of(declare(name, kafka_authentication(scaler, secret), options))

    def _served(
        self, name: str, deployment: Manifest, service: Manifest, after: list[pulumi.Resource]
    ) -> pulumi.CustomResource:
        running = declare(name, deployment, pulumi.ResourceOptions(parent=self, depends_on=after))
        return declare(name, service, pulumi.ResourceOptions(parent=self, depends_on=[running]))


def hosts() -> list[str]:
    """Names that operator and metrics API are called by."""
    return [
        *(names.webhook_host(name, names.KEDA_NAMESPACE) for name in (names.KEDA_OPERATOR, names.KEDA_METRICS_API)),
        names.service_host(names.KEDA_OPERATOR, names.KEDA_NAMESPACE),
    ]


@dataclass(frozen=True, kw_only=True)
class Pods:
    """KEDA's two Deployments, from one image."""

    args: KedaArgs
    namespace: pulumi.Input[str]
    account: pulumi.Input[str]
    secret: pulumi.Input[str]
    certificate: pulumi.Output[str]
    labels: Mapping[str, str]
    """Of the operator's pods beside its own: what the platform grants."""

    def operator(self) -> Manifest:
        """Watches ScaledObjects, makes their autoscalers, starts and stops the last pod."""
        container = workloads.container(
            "operator",
            self.args.image,
            workloads.resources(cpu="20m", cpu_limit="1", memory="256Mi"),
            {"certificate": CERTIFICATES, "scratch": workloads.SCRATCH},
            command=["/usr/local/bin/keda"],
            args=["--zap-log-level=info", "--enable-cert-rotation=false", "--enable-webhook-patching=false"],
            env=self._environment(),
            ports=[
                {"name": "health", "containerPort": HEALTH_PORT},
                {"name": "metrics", "containerPort": METRICS_SERVICE_PORT},
            ],
            startupProbe=probes.startup("/readyz", "health", within=STARTUP_SECONDS),
            readinessProbe=probes.readiness("/readyz", "health"),
            livenessProbe=probes.liveness("/healthz", "health"),
        )
        return self._deployment(names.KEDA_OPERATOR, OPERATOR_LABELS, container, self.labels)

    def metrics_api(self) -> Manifest:
        """Answers the autoscalers with what the operator measures."""
        container = workloads.container(
            "metrics-api",
            self.args.image,
            workloads.resources(cpu="20m", cpu_limit="1", memory="192Mi"),
            {"certificate": CERTIFICATES, "scratch": workloads.SCRATCH},
            command=["/usr/local/bin/keda-adapter"],
            args=[
                f"--secure-port={API_PORT}",
                f"--client-ca-file={CERTIFICATES}/ca.crt",
                f"--tls-cert-file={CERTIFICATES}/tls.crt",
                f"--tls-private-key-file={CERTIFICATES}/tls.key",
                f"--cert-dir={CERTIFICATES}",
                f"--metrics-service-address={hosts()[0]}:{METRICS_SERVICE_PORT}",
            ],
            env=self._environment(),
            ports=[{"name": webhooks.PORT_NAME, "containerPort": API_PORT}],
            readinessProbe=probes.readiness("/readyz", webhooks.PORT_NAME, "HTTPS"),
            livenessProbe=probes.liveness("/livez", webhooks.PORT_NAME, "HTTPS"),
        )
        return self._deployment(names.KEDA_METRICS_API, API_LABELS, container)

    def _environment(self) -> list[Manifest]:
        place = {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}
        settings: dict[str, pulumi.Input[str]] = {
            "WATCH_NAMESPACE": self.args.namespaces.models,
            "KEDA_RESTRICT_SECRET_ACCESS": "true",
            "KEDA_HTTP_DEFAULT_TIMEOUT": "3000",
        }
        return [place, *workloads.env(settings)]

    def _deployment(
        self, name: str, labels: dict[str, str], container: Manifest, more: Mapping[str, str] | None = None
    ) -> Manifest:
        pod = workloads.Pod(
            labels={**labels, **(more or {})},
            annotations={names.ANNOTATION_CONFIG_DIGEST: webhooks.digest(self.certificate)},
            containers=[container],
            volumes={
                "certificate": {"secret": {"secretName": self.secret}},
                "scratch": {"emptyDir": {"sizeLimit": "64Mi"}},
            },
            service_account=self.account,
            extra={"automountServiceAccountToken": True},
        )
        return workloads.singleton(name, self.namespace, pod, selector=labels)


def operator_service(namespace: pulumi.Input[str]) -> Manifest:
    """Where the metrics API finds the operator."""
    port = {"name": "metrics", "port": METRICS_SERVICE_PORT, "targetPort": "metrics", "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(names.KEDA_OPERATOR, namespace, OPERATOR_LABELS),
        "spec": {"type": "ClusterIP", "selector": dict(OPERATOR_LABELS), "ports": [{**port, "appProtocol": "grpc"}]},
    }


def kafka_authentication(scaler: KafkaScaler, secret: pulumi.Input[str] | None) -> Manifest:
    """How the scaler of streams signs in: by what the Secret tells, or as whom KEDA is."""
    spec: Manifest = {
        "secretTargetRef": [{"parameter": parameter, "name": secret, "key": parameter} for parameter in scaler.secret]
    }
    if scaler.identity is not None:
        spec = {"podIdentity": {"provider": scaler.identity}}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ClusterTriggerAuthentication",
        "metadata": metadata(names.KAFKA),
        "spec": spec,
    }


def rights_manifests(account: pulumi.Input[str], models: pulumi.Input[str]) -> dict[str, Manifest]:
    """Rights of both: in the models' namespace what scaling takes, in the cluster only kinds that have no namespace."""
    name, space = names.KEDA, names.KEDA_NAMESPACE
    subject = rbac.service_account(account, space)
    autoscaler = rbac.service_account("horizontal-pod-autoscaler", "kube-system")
    asking = f"{name}-client"
    scaled = ("scaledjobs", "scaledobjects", "triggerauthentications")
    parts = [f"{kind}/{part}" for kind in scaled for part in ("status", "finalizers")]
    within = [
        rbac.rule("keda.sh", [*scaled, *parts], rbac.CHANGE),
        rbac.rule("eventing.keda.sh", ["cloudeventsources", "cloudeventsources/status"], rbac.CHANGE),
        rbac.rule("autoscaling", ["horizontalpodautoscalers"], rbac.OWN),
        rbac.rule("apps", ["deployments", "replicasets", "statefulsets"], rbac.READ),
        rbac.rule("apps", ["deployments/scale", "statefulsets/scale"], rbac.CHANGE),
        rbac.rule("batch", ["jobs"], rbac.OWN),
        rbac.rule("", ["configmaps", "limitranges", "pods", "serviceaccounts", "services"], rbac.READ),
        rbac.rule("discovery.k8s.io", ["endpointslices"], rbac.READ),
        rbac.rule("", ["events"], ("create", "patch")),
        rbac.rule("events.k8s.io", ["events"], ("create", "patch")),
    ]
    everywhere = [
        rbac.rule("keda.sh", ["clustertriggerauthentications", "clustertriggerauthentications/status"], rbac.CHANGE),
        rbac.rule("eventing.keda.sh", ["clustercloudeventsources", "clustercloudeventsources/status"], rbac.CHANGE),
    ]
    return {
        "models-role": rbac.role(name, models, within),
        "models": rbac.role_binding(name, models, name, subject),
        "secrets-role": rbac.role(f"{name}-secrets", space, [rbac.rule("", ["secrets"], rbac.READ)]),
        "secrets": rbac.role_binding(f"{name}-secrets", space, f"{name}-secrets", subject),
        "role": rbac.cluster_role(name, everywhere),
        "binding": rbac.cluster_role_binding(name, name, subject),
        "delegator": rbac.cluster_role_binding(f"{name}-delegator", "system:auth-delegator", subject),
        "auth-reader": rbac.role_binding(name, "kube-system", "extension-apiserver-authentication-reader", subject),
        "client-role": rbac.cluster_role(asking, [rbac.rule(GROUP, ["*"], ("get", "list"))]),
        "client": rbac.cluster_role_binding(asking, asking, autoscaler),
    }


def policies(args: KedaArgs, namespace: pulumi.Input[str]) -> dict[str, Manifest]:
    """The API server asks the metrics API, that asks the operator, and the operator asks Prometheus."""
    api = [network.flow("to", [], network.API_SERVER_PORTS)]
    prometheus = network.namespace_peer(args.namespaces.platform, {names.LABEL_NAME: names.PROMETHEUS})
    measured = [network.flow("to", [prometheus], [args.monitoring.port])] if args.monitoring else []
    if args.kafka is not None:
        measured.append(network.flow("to", args.kafka.peers, [args.kafka.port]))
    operator = network.namespace_peer(namespace, OPERATOR_LABELS)
    answering = network.namespace_peer(namespace, API_LABELS)
    return {
        "operator-policy": network.allow(
            names.KEDA_OPERATOR,
            namespace,
            OPERATOR_LABELS,
            ingress=[network.flow("from", [answering], [METRICS_SERVICE_PORT])],
            egress=[*api, *measured],
        ),
        "api-policy": network.allow(
            names.KEDA_METRICS_API,
            namespace,
            API_LABELS,
            ingress=[network.flow("from", [], [API_PORT])],
            egress=[*api, network.flow("to", [operator], [METRICS_SERVICE_PORT])],
        ),
    }
