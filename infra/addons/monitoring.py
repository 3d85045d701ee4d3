"""Prometheus: scrapes every release and the gateway, evaluates the alerts, answers below `/prometheus`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi
import yaml

from infra import names
from infra.addons.istio import GATEWAY_SELECTOR
from infra.k8s import mesh, network, probes, rbac, workloads
from infra.k8s.manifest import Manifest, declare, name_of
from infra.outputs import Gateway, GpuMetrics, Monitoring, Namespaces
from infra.telemetry.alerts import rule_file
from infra.telemetry.dashboards import dashboards
from infra.telemetry.scraping import GATEWAY_METRICS_PORT, SIDECAR_METRICS_PORT, prometheus_config
from services.contract import HTTP_PORT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.config.addons import MonitoringConfig
    from infra.telemetry.alerts import Objective

PORT = 9090
READY, HEALTHY = "/-/ready", "/-/healthy"

LABELS = {names.LABEL_NAME: names.PROMETHEUS}

DASHBOARD_LABEL = {"grafana_dashboard": "1"}
"""What the sidecar of a Grafana elsewhere looks for, in any namespace."""

STARTUP_SECONDS = 120
"""Time to read the log of what was scraped last; two days of ten releases take two seconds."""

HEAP_SHARE = 0.8
"""Of the memory, for Go's heap: above it the collector works harder instead of the kernel ending the process."""


@dataclass(frozen=True, kw_only=True)
class PrometheusArgs:
    """What Prometheus is made from."""

    config: MonitoringConfig
    image: str
    objectives: Sequence[Objective]
    """What each realtime model promises, for the alerts."""
    streams: Sequence[str]
    """Names of the stream models that always have a worker, likewise."""
    namespaces: Namespaces
    gateway: Gateway
    gpu_metrics: GpuMetrics | None = None
    """What tells of GPUs, where the platform has it."""


class Prometheus(pulumi.ComponentResource):
    """Prometheus with its rules, and Grafana's dashboards for whoever has a Grafana."""

    monitoring: Monitoring

    def __init__(self, name: str, args: PrometheusArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:addons:Prometheus", name, {}, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        namespace = args.namespaces.platform
        account = workloads.service_account(names.PROMETHEUS, namespace, LABELS)
        account_name = name_of(declare(name, account, self._child))
        scraped = {"models": args.namespaces.models, "gateway": args.gateway.namespace}
        if args.gpu_metrics is not None:
            scraped["gpus"] = args.gpu_metrics.namespace
        rights = [right for place, where in scraped.items() for right in self._rights(place, where, account_name)]
        files = config_files(args)
        claim = workloads.volume_claim(names.PROMETHEUS, namespace, LABELS, args.config.volume)
        volume = name_of(declare(name, claim, self._child))
        files_name = names.prometheus_files(files_digest(files))
        config = declare(name, workloads.config_map(files_name, namespace, LABELS, files), self._child)
        for policy, manifest in policies(args).items():
            declare(f"{name}-{policy}", manifest, self._child)
        for dashboard, content in dashboards().items():
            self._dashboard(dashboard, json.dumps(content, indent=1), namespace)
        server = declare(
            name,
            server_manifest(args, account_name, name_of(config), volume),
            pulumi.ResourceOptions(parent=self, depends_on=rights),
        )
        service = declare(
            name,
            workloads.service(names.PROMETHEUS, namespace, LABELS, {"http": PORT}),
            pulumi.ResourceOptions(parent=self, depends_on=[server]),
        )
        routed = mesh.virtual_service(names.PROMETHEUS, namespace, args.gateway.reference, routes())
        declare(name, routed, pulumi.ResourceOptions(parent=self, depends_on=[service]))
        host = pulumi.Output.all(name_of(service), namespace).apply(lambda it: names.service_host(*it))
        self.monitoring = Monitoring(
            url=pulumi.Output.format("http://{0}:{1}", host, PORT),
            public_url=f"{args.gateway.url}{names.PROMETHEUS_PATH}" if args.gateway.internal else None,
            port=PORT,
        )
        self.register_outputs({"url": self.monitoring.url, "publicUrl": self.monitoring.public_url})

    def _rights(
        self, place: str, namespace: pulumi.Output[str], account: pulumi.Output[str]
    ) -> list[pulumi.CustomResource]:
        name = f"{names.PROMETHEUS}-{place}"
        role = declare(name, rbac.role(names.PROMETHEUS, namespace, [rbac.rule("", ["pods"], rbac.READ)]), self._child)
        subject = rbac.service_account(account, names.PLATFORM_NAMESPACE)
        bound = declare(name, rbac.role_binding(names.PROMETHEUS, namespace, name_of(role), subject), self._child)
        return [role, bound]

    def _dashboard(self, name: str, content: str, namespace: pulumi.Input[str]) -> None:
        resource = names.dashboard(name)
        manifest = workloads.config_map(resource, namespace, DASHBOARD_LABEL, {f"slipway-{name}.json": content})
        declare(resource, manifest, self._child)


def config_files(args: PrometheusArgs) -> dict[str, str]:
    """Prometheus' files by name."""
    gpus = None if args.gpu_metrics is None else (names.GPUS_NAMESPACE, args.gpu_metrics.port)
    return {
        "prometheus.yml": yaml.safe_dump(prometheus_config(args.config.scrape_seconds, gpus), sort_keys=False),
        "rules.yml": yaml.safe_dump(rule_file(args.objectives, args.streams), sort_keys=False, width=110),
    }


def files_digest(files: dict[str, str]) -> str:
    """Digest of the files' names and contents, in hex."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def server_manifest(
    args: PrometheusArgs,
    account: pulumi.Input[str],
    config: pulumi.Input[str],
    claim: pulumi.Input[str],
) -> Manifest:
    """The Deployment of the server. One pod: it owns its volume."""
    settings = args.config
    container = workloads.container(
        "prometheus",
        args.image,
        workloads.resources(cpu="50m", cpu_limit="1", memory=settings.memory),
        {"config": "/etc/prometheus", "data": "/prometheus"},
        args=[
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            f"--storage.tsdb.retention.time={settings.retention_hours}h",
            f"--web.external-url={args.gateway.url}{names.PROMETHEUS_PATH}",
            # The gateway cuts the prefix off.
            "--web.route-prefix=/",
            f"--auto-gomemlimit.ratio={HEAP_SHARE}",
        ],
        ports=[{"name": "http", "containerPort": PORT}],
        startupProbe=probes.startup(READY, "http", within=STARTUP_SECONDS),
        readinessProbe=probes.readiness(READY, "http"),
        livenessProbe=probes.liveness(HEALTHY, "http"),
    )
    pod = workloads.Pod(
        labels=LABELS,
        containers=[container],
        # Other files are another ConfigMap and roll the pod: what `pulumi up` changed is in force when it ends. A
        # reload would come up to a minute later, when the kubelet has brought the files.
        volumes={"config": {"configMap": {"name": config}}, "data": {"persistentVolumeClaim": {"claimName": claim}}},
        service_account=account,
        extra={"automountServiceAccountToken": True},
    )
    return workloads.singleton(names.PROMETHEUS, args.namespaces.platform, pod, selector=LABELS)


def routes() -> list[Manifest]:
    """Everything below `/prometheus/` goes to the server."""
    host = names.service_host(names.PROMETHEUS, names.PLATFORM_NAMESPACE)
    path = names.PROMETHEUS_PATH
    to_slash = {
        "name": "prometheus-slash",
        "match": [{"uri": {"exact": path}}],
        "redirect": {"uri": f"{path}/", "redirectCode": 308},
    }
    return [to_slash, mesh.rewriting_route("prometheus", mesh.below(path), [mesh.destination(host, PORT)])]


def policies(args: PrometheusArgs) -> dict[str, Manifest]:
    """Who may ask Prometheus, and whom it may ask, on both ends, by what each is for."""
    spaces, gateway = args.namespaces, args.gateway.namespace
    from_here = network.namespace_peer(spaces.platform, LABELS)
    callers = [network.namespace_peer(gateway), network.namespace_peer(spaces.platform)]
    models = [HTTP_PORT, SIDECAR_METRICS_PORT] if args.gateway.mtls else [HTTP_PORT]
    gpus = args.gpu_metrics
    asked = [] if gpus is None else [network.flow("to", [network.namespace_peer(gpus.namespace)], [gpus.port])]
    return {
        "policy": network.allow(
            names.PROMETHEUS,
            spaces.platform,
            LABELS,
            ingress=[network.flow("from", callers, [PORT])],
            egress=[
                network.flow("to", [network.namespace_peer(spaces.models)], models),
                network.flow("to", [network.namespace_peer(gateway, GATEWAY_SELECTOR)], [GATEWAY_METRICS_PORT]),
                *asked,
                network.flow("to", [], network.API_SERVER_PORTS),
            ],
        ),
        "scrapes-models": network.allow(
            names.PROMETHEUS, spaces.models, {}, ingress=[network.flow("from", [from_here], models)]
        ),
        "scrapes-gateway": network.allow(
            names.PROMETHEUS,
            gateway,
            GATEWAY_SELECTOR,
            ingress=[network.flow("from", [from_here], [GATEWAY_METRICS_PORT])],
        ),
    }
