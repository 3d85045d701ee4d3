"""external-dns from its own chart, for what else runs in the cluster: records in the zones that it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.access import Needs
from infra.k8s import helm, network, workloads
from infra.k8s.manifest import declare, name_of
from infra.k8s.namespaces import isolated

if TYPE_CHECKING:
    from infra.access import Granted
    from infra.config.addons import ExternalDnsConfig
    from infra.k8s.manifest import Manifest
    from infra.outputs import PlatformOutputs

REPOSITORY, CHART, VERSION = "https://kubernetes-sigs.github.io/external-dns/", "external-dns", "1.22.0"

LABELS = {names.LABEL_NAME: names.EXTERNAL_DNS, "app.kubernetes.io/instance": names.EXTERNAL_DNS}
"""That the chart puts on its pods."""


@dataclass(frozen=True, kw_only=True)
class ExternalDnsArgs:
    """What it is made from."""

    config: ExternalDnsConfig
    platform: PlatformOutputs
    owner: str
    """Marks its records in a zone: it changes none that is another's."""


class ExternalDns(pulumi.ComponentResource):
    """The controller, in a namespace of its own, with a role for its zones alone."""

    def __init__(self, name: str, args: ExternalDnsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:addons:ExternalDns", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        namespace = isolated(names.EXTERNAL_DNS, child)
        needs = Needs(zones=sorted(args.config.zones.values()))
        granted = args.platform.access.grant(names.EXTERNAL_DNS, namespace, needs, child)
        account = name_of(declare(name, workloads.service_account(names.EXTERNAL_DNS, namespace, LABELS), child))
        policy = declare(f"{name}-policy", network_policy(namespace), child)
        after = pulumi.ResourceOptions(parent=self, depends_on=[policy, *granted.after])
        chosen = values(args, account, granted)
        helm.release(name, CHART, namespace, after, values=chosen, repository=REPOSITORY, version=VERSION)
        self.register_outputs({})


def values(args: ExternalDnsArgs, account: pulumi.Input[str], granted: Granted) -> Manifest:
    """Values of the chart."""
    zones = args.config.zones
    return {
        "serviceAccount": {"create": False, "name": account},
        "podLabels": dict(granted.labels),
        "env": workloads.env({"AWS_DEFAULT_REGION": args.platform.models_bucket.region}),
        "provider": {"name": "aws"},
        "sources": ["service", "ingress"],
        # It removes what it made, and takes over nothing.
        "policy": "sync",
        "registry": "txt",
        "txtOwnerId": args.owner,
        "domainFilters": sorted(zones),
        "extraArgs": [f"--zone-id-filter={zone}" for zone in sorted(zones.values())],
        "resources": workloads.resources(cpu="10m", cpu_limit="500m", memory="128Mi"),
    }


def network_policy(namespace: pulumi.Input[str]) -> Manifest:
    """It watches by the API server; its way to AWS is the platform's to allow."""
    return network.allow(
        names.EXTERNAL_DNS, namespace, LABELS, egress=[network.flow("to", [], network.API_SERVER_PORTS)]
    )
