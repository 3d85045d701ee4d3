"""Grafana from its own chart: the environment's dashboards over its Prometheus, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.addons import monitoring as prometheus
from infra.k8s import helm, mesh, network, workloads
from infra.k8s.manifest import declare, name_of
from infra.outputs import Gateway, Grafana, Monitoring, Namespaces
from infra.random_secret import RandomSecret
from infra.telemetry.dashboards import dashboards

if TYPE_CHECKING:
    from infra.k8s.manifest import Manifest

REPOSITORY, CHART, VERSION = "https://grafana-community.github.io/helm-charts", "grafana", "13.0.1"

PORT = 3000
LABELS = {names.LABEL_NAME: names.GRAFANA, "app.kubernetes.io/instance": names.GRAFANA}
"""That the chart puts on its pods."""

ADMIN = f"{names.GRAFANA}-admin"
USER_KEY, PASSWORD_KEY = "user", "password"
PASSWORD_BYTES = 24
"""192 bits."""

DASHBOARDS = "/var/lib/grafana/dashboards"
"""Where the chart mounts ConfigMaps, each in a directory of its name."""


@dataclass(frozen=True, kw_only=True)
class GrafanaArgs:
    """What Grafana is made from."""

    namespaces: Namespaces
    gateway: Gateway
    monitoring: Monitoring


class GrafanaServer(pulumi.ComponentResource):
    """Grafana below `/grafana`. Dashboards are the program's: what somebody changes by hand is gone with the pod."""

    grafana: Grafana

    def __init__(self, name: str, args: GrafanaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:addons:Grafana", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        namespace = args.namespaces.platform
        password = RandomSecret(ADMIN, PASSWORD_BYTES, child).result
        credentials = workloads.secret(ADMIN, namespace, {USER_KEY: "admin", PASSWORD_KEY: password})
        admin = name_of(declare(ADMIN, credentials, child))
        policy = declare(f"{name}-policy", network_policy(args), child)
        after = pulumi.ResourceOptions(parent=self, depends_on=[policy])
        server = helm.release(
            name, CHART, namespace, after, values=values(args, admin), repository=REPOSITORY, version=VERSION
        )
        routed = mesh.virtual_service(names.GRAFANA, namespace, args.gateway.reference, routes())
        declare(name, routed, pulumi.ResourceOptions(parent=self, depends_on=[server]))
        url = f"{args.gateway.url}{names.GRAFANA_PATH}"
        self.grafana = Grafana(public_url=url if args.gateway.internal else None)
        self.register_outputs({"publicUrl": self.grafana.public_url})


def values(args: GrafanaArgs, admin: pulumi.Input[str]) -> Manifest:
    """Values of the chart."""
    known = sorted(dashboards())
    url = args.gateway.url
    return {
        "admin": {"existingSecret": admin, "userKey": USER_KEY, "passwordKey": PASSWORD_KEY},
        # It asks the API server for nothing: what it shows is mounted.
        "rbac": {"create": False},
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "testFramework": {"enabled": False},
        "resources": workloads.resources(cpu="50m", cpu_limit="1", memory="512Mi"),
        "service": {"port": PORT, "appProtocol": "http"},  # the mesh reads the protocol from here
        "grafana.ini": {
            "server": {"root_url": f"{url}{names.GRAFANA_PATH}/"},
            "security": {"cookie_secure": url.startswith("https://"), "disable_gravatar": True},
            # Nothing leaves for Grafana's makers; the network policy would not let it either.
            "analytics": {
                "reporting_enabled": False,
                "check_for_updates": False,
                "check_for_plugin_updates": False,
            },
            "plugins": {"preinstall_disabled": True},
        },
        "datasources": {
            "datasources.yaml": {
                "apiVersion": 1,
                "datasources": [
                    {
                        "name": "Prometheus",
                        "uid": names.PROMETHEUS,
                        "type": "prometheus",
                        "access": "proxy",
                        "url": args.monitoring.url,
                        "isDefault": True,
                        "editable": False,
                    }
                ],
            }
        },
        "dashboardsConfigMaps": {each: names.dashboard(each) for each in known},
        "dashboardProviders": {
            "dashboardproviders.yaml": {
                "apiVersion": 1,
                "providers": [
                    {
                        "name": each,
                        "orgId": 1,
                        "folder": "Slipway",
                        "type": "file",
                        "disableDeletion": True,
                        "allowUiUpdates": False,
                        "options": {"path": f"{DASHBOARDS}/{each}"},
                    }
                    for each in known
                ],
            }
        },
    }


def routes() -> list[Manifest]:
    """Everything below `/grafana/` goes to the server, which thinks it is at the root."""
    host = names.service_host(names.GRAFANA, names.PLATFORM_NAMESPACE)
    path = names.GRAFANA_PATH
    to_slash = {
        "name": "grafana-slash",
        "match": [{"uri": {"exact": path}}],
        "redirect": {"uri": f"{path}/", "redirectCode": 308},
    }
    return [to_slash, mesh.rewriting_route("grafana", mesh.below(path), [mesh.destination(host, PORT)])]


def network_policy(args: GrafanaArgs) -> Manifest:
    """The gateway may ask it, and it Prometheus."""
    server = network.namespace_peer(args.namespaces.platform, prometheus.LABELS)
    return network.allow(
        names.GRAFANA,
        args.namespaces.platform,
        LABELS,
        ingress=[network.flow("from", [network.namespace_peer(args.gateway.namespace)], [PORT])],
        egress=[network.flow("to", [server], [args.monitoring.port])],
    )
