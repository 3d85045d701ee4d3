"""KubeRay: Ray clusters for one run each.

Its operator is confined to the models' namespace. It has no rights over the whole cluster, and none over secrets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.k8s import helm, network, probes, rbac, workloads
from infra.k8s.manifest import Manifest, declare, name_of
from infra.k8s.namespaces import isolated
from infra.outputs import Kuberay
from services.contract import RAY_DASHBOARD_PORT

if TYPE_CHECKING:
    from infra.config.addons import KuberayConfig
    from infra.outputs import Namespaces

HEALTH_PORT = 8082

LABELS = {names.LABEL_NAME: names.KUBERAY}

STARTUP_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class KuberayArgs:
    """What KubeRay is made from."""

    config: KuberayConfig
    image: str
    namespaces: Namespaces


class KuberayOperator(pulumi.ComponentResource):
    """Kinds and operator."""

    kuberay: Kuberay

    def __init__(self, name: str, args: KuberayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:addons:Kuberay", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        namespace = isolated(names.KUBERAY_NAMESPACE, child)
        kinds = helm.release(f"{name}-kinds", f"{args.config.charts}/kuberay-crd", namespace, child, name="kuberay-crd")
        account = name_of(declare(name, workloads.service_account(names.KUBERAY, namespace, LABELS), child))
        ways = {
            **rights_manifests(account, args.namespaces.models),
            "policy": policy(args.namespaces.models, namespace),
        }
        allowed = [declare(f"{name}-{kind}", manifest, child) for kind, manifest in ways.items()]
        after = pulumi.ResourceOptions(parent=self, depends_on=[kinds, *allowed])
        operator = declare(name, deployment(args, namespace, account), after)
        self.kuberay = Kuberay(operator=operator, namespace=namespace, labels=LABELS)
        self.register_outputs({"namespace": namespace})


def deployment(args: KuberayArgs, namespace: pulumi.Input[str], account: pulumi.Input[str]) -> Manifest:
    """The operator."""
    container = workloads.container(
        "operator",
        args.image,
        workloads.resources(cpu="20m", cpu_limit="1", memory="256Mi"),
        {},
        args=[
            pulumi.Output.concat("--namespace=", args.namespaces.models),
            pulumi.Output.concat("--own-namespace=", namespace),
            f"--health-address=:{HEALTH_PORT}",
        ],
        # Its probes ask with a program that our image lacks, and its container that waits for the head has too little
        # memory to start Ray's; workers wait by themselves.
        env=workloads.env({"ENABLE_PROBES_INJECTION": "false", "ENABLE_INIT_CONTAINER_INJECTION": "false"}),
        ports=[{"name": "health", "containerPort": HEALTH_PORT}],
        startupProbe=probes.startup("/readyz", "health", within=STARTUP_SECONDS),
        readinessProbe=probes.readiness("/readyz", "health"),
        livenessProbe=probes.liveness("/healthz", "health"),
    )
    pod = workloads.Pod(
        labels=LABELS,
        containers=[container],
        service_account=account,
        extra={"automountServiceAccountToken": True},
    )
    return workloads.singleton(names.KUBERAY, namespace, pod)


def rights_manifests(account: pulumi.Input[str], models: pulumi.Input[str]) -> dict[str, Manifest]:
    """Rights in the models' namespace, and of reading what is in its own: there it looks for what it has no use for."""
    name, space = names.KUBERAY, names.KUBERAY_NAMESPACE
    subject = rbac.service_account(account, space)
    kinds = ("rayclusters", "rayjobs")
    within = [
        rbac.rule("ray.io", [*kinds, *(f"{kind}/status" for kind in kinds)], rbac.OWN),
        # Owners of what it makes that block their own deletion.
        rbac.rule("ray.io", [f"{kind}/finalizers" for kind in kinds], ("update",)),
        rbac.rule("", ["pods", "services"], (*rbac.OWN, "deletecollection")),
        rbac.rule("", ["events"], ("create", "patch")),
    ]
    own = [rbac.rule("", ["secrets"], rbac.READ), rbac.rule("batch", ["jobs"], rbac.READ)]
    return {
        "models-role": rbac.role(name, models, within),
        "models": rbac.role_binding(name, models, name, subject),
        "role": rbac.role(name, space, own),
        "binding": rbac.role_binding(name, space, name, subject),
    }


def policy(models: pulumi.Input[str], namespace: pulumi.Input[str]) -> Manifest:
    """It asks the API server, and the heads of the clusters for their jobs. Nobody asks it."""
    heads = network.namespace_peer(models, {"ray.io/node-type": "head"})
    return network.allow(
        names.KUBERAY,
        namespace,
        LABELS,
        egress=[network.flow("to", [], network.API_SERVER_PORTS), network.flow("to", [heads], [RAY_DASHBOARD_PORT])],
    )
