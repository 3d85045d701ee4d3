"""prometheus-adapter: the custom metrics API, by which pods are scaled by the requests they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi
import yaml

from infra import names
from infra.certificate import ServingCertificate
from infra.k8s import network, probes, rbac, webhooks, workloads
from infra.k8s.manifest import Manifest, declare, name_of
from services.contract import Metric

if TYPE_CHECKING:
    from infra.outputs import Monitoring, Namespaces

PORT = 6443

LABELS = {names.LABEL_NAME: names.PROMETHEUS_ADAPTER}

GROUP, VERSION = "custom.metrics.k8s.io", "v1beta1"

METRIC = "requests_per_second"
"""Pods metric: predictions that a pod answers a second."""

RELIST_SECONDS = 10
"""How soon the first pod of a model can be scaled by it."""

RULES: Manifest = {
    "rules": [
        {
            # The service's own rate of the last ten seconds: a rate of Prometheus' would come four scrapes later.
            "seriesQuery": f'{Metric.REQUEST_RATE}{{namespace!="",pod!=""}}',
            "resources": {"overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}},
            "name": {"as": METRIC},
            # A process may serve several models: a pod's load is that of all of them.
            "metricsQuery": "sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)",
        }
    ]
}


@dataclass(frozen=True, kw_only=True)
class CustomMetricsArgs:
    """What the adapter is made from."""

    image: str
    monitoring: Monitoring
    namespaces: Namespaces


class CustomMetrics(pulumi.ComponentResource):
    """The API `custom.metrics.k8s.io`, answered from Prometheus."""

    def __init__(self, name: str, args: CustomMetricsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:addons:CustomMetrics", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        namespace = args.namespaces.platform
        certificate = ServingCertificate(name, [names.webhook_host(name, names.PLATFORM_NAMESPACE)], child)
        account = name_of(declare(name, workloads.service_account(name, namespace, LABELS), child))
        rights = [declare(f"{name}-{kind}", manifest, child) for kind, manifest in rights_manifests(account).items()]
        secret = declare(name, webhooks.tls_secret(name, namespace, certificate.certificate, certificate.key), child)
        config = {"config.yaml": yaml.safe_dump(RULES, sort_keys=False)}
        files = declare(name, workloads.config_map(name, namespace, LABELS, config), child)
        declare(f"{name}-policy", network_policy(args), child)
        server = declare(
            name,
            server_manifest(args, account, name_of(files), secret, certificate.certificate),
            pulumi.ResourceOptions(parent=self, depends_on=rights),
        )
        service = declare(
            name,
            webhooks.service(names.PROMETHEUS_ADAPTER, namespace, LABELS),
            pulumi.ResourceOptions(parent=self, depends_on=[server]),
        )
        api = declare(
            name,
            webhooks.api_service(GROUP, VERSION, name_of(service), namespace, certificate.ca),
            pulumi.ResourceOptions(parent=self, depends_on=[service]),
        )
        self.register_outputs({"api": name_of(api)})


def rights_manifests(account: pulumi.Input[str]) -> dict[str, Manifest]:
    """What the adapter may do, and that the autoscaler may ask it."""
    name, space = names.PROMETHEUS_ADAPTER, names.PLATFORM_NAMESPACE
    adapter = rbac.service_account(account, space)
    autoscaler = rbac.service_account("horizontal-pod-autoscaler", "kube-system")
    asking, watching = f"{name}-client", f"{name}-watch"
    return {
        # As every aggregated API server: it has callers' tokens reviewed, and reads who may pose as the proxy.
        "delegator": rbac.cluster_role_binding(f"{name}-delegator", "system:auth-delegator", adapter),
        "auth-reader": rbac.role_binding(name, "kube-system", "extension-apiserver-authentication-reader", adapter),
        # A metric of pods is asked for by their labels.
        "watch-role": rbac.cluster_role(watching, [rbac.rule("", ["namespaces", "pods"], rbac.READ)]),
        "watch": rbac.cluster_role_binding(watching, watching, adapter),
        "client-role": rbac.cluster_role(asking, [rbac.rule(GROUP, [f"pods/{METRIC}"], ["get", "list"])]),
        "client": rbac.cluster_role_binding(asking, asking, autoscaler),
    }


def server_manifest(
    args: CustomMetricsArgs,
    account: pulumi.Input[str],
    config: pulumi.Input[str],
    secret: pulumi.CustomResource,
    certificate: pulumi.Output[str],
) -> Manifest:
    """The Deployment of the adapter."""
    container = workloads.container(
        "adapter",
        args.image,
        workloads.resources(cpu="20m", cpu_limit="1", memory="128Mi"),
        {"config": "/etc/adapter", "certificate": "/etc/certificate", "scratch": workloads.SCRATCH},
        args=[
            "--config=/etc/adapter/config.yaml",
            pulumi.Output.concat("--prometheus-url=", args.monitoring.url),
            f"--secure-port={PORT}",
            "--tls-cert-file=/etc/certificate/tls.crt",
            "--tls-private-key-file=/etc/certificate/tls.key",
            f"--metrics-relist-interval={RELIST_SECONDS}s",
        ],
        ports=[{"name": webhooks.PORT_NAME, "containerPort": PORT}],
        readinessProbe=probes.readiness("/readyz", webhooks.PORT_NAME, "HTTPS"),
        livenessProbe=probes.liveness("/livez", webhooks.PORT_NAME, "HTTPS"),
    )
    pod = workloads.Pod(
        labels=LABELS,
        annotations={names.ANNOTATION_CONFIG_DIGEST: webhooks.digest(certificate, yaml.safe_dump(RULES))},
        containers=[container],
        volumes={
            "config": {"configMap": {"name": config}},
            "certificate": {"secret": {"secretName": name_of(secret)}},
            "scratch": {"emptyDir": {"sizeLimit": "64Mi"}},
        },
        service_account=account,
        extra={"automountServiceAccountToken": True},
    )
    return workloads.singleton(names.PROMETHEUS_ADAPTER, args.namespaces.platform, pod, selector=LABELS)


def network_policy(args: CustomMetricsArgs) -> Manifest:
    """The API server calls from outside any namespace; the adapter asks Prometheus and the API server."""
    prometheus = network.namespace_peer(args.namespaces.platform, {names.LABEL_NAME: names.PROMETHEUS})
    return network.allow(
        names.PROMETHEUS_ADAPTER,
        args.namespaces.platform,
        LABELS,
        ingress=[network.flow("from", [], [PORT])],
        egress=[
            network.flow("to", [prometheus], [args.monitoring.port]),
            network.flow("to", [], network.API_SERVER_PORTS),
        ],
    )
