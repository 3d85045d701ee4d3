"""A model that answers requests: releases, each a workload of its own, and the traffic between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.k8s import mesh, workloads
from infra.k8s.manifest import Manifest, declare, name_of
from infra.serving.realtime import release as manifests
from infra.serving.realtime import routing
from infra.serving.realtime.release import ReleaseSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.config.models import RealtimeModelConfig
    from infra.outputs import AddonOutputs, Namespaces
    from infra.registry.reference import ResolvedModel


@dataclass(frozen=True, kw_only=True)
class RealtimeModelArgs:
    """What a model is declared from."""

    config: RealtimeModelConfig
    resolved: Mapping[str, ResolvedModel]
    """What each release's reference stands for."""
    image: str | None
    """Image of the releases that name none of their own."""
    namespaces: Namespaces
    addons: AddonOutputs


class RealtimeModel(pulumi.ComponentResource):
    """Releases and their traffic, in an order that never sends a request to what cannot answer.

    1. A new release's objects are made, and its pods become ready; if they do not, the update ends here.
    2. The route changes: weights reach only releases that step 1 has seen ready.
    3. What left the configuration is deleted, last of all: Pulumi deletes after it has created and
       updated everything else, and the pods go on answering while the gateway learns of step 2.
    """

    endpoint: str
    """Base address for callers, without a final slash."""

    def __init__(self, name: str, args: RealtimeModelArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:serving:RealtimeModel", name, {}, opts)
        self._name = name
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        policy = declare(name, self._network_policy(), self._child)
        ready = [each for release in args.config.releases for each in self._release(release, policy)]
        self._route(ready)
        self.endpoint = f"{args.addons.gateway.url}{names.model_path(name)}"
        self.register_outputs({"endpoint": self.endpoint})

    def _release(self, release: str, policy: pulumi.Resource) -> list[pulumi.Resource]:
        spec = self._spec(release)
        account = workloads.service_account(spec.name, spec.namespace, spec.labels)
        manifest = manifests.deployment(spec, name_of(declare(spec.name, account, self._child)))
        within = f"{manifests.deadline_seconds(spec.settings)}s"
        deployment = declare(
            spec.name,
            manifest,
            pulumi.ResourceOptions(
                parent=self,
                depends_on=[policy],
                custom_timeouts=pulumi.CustomTimeouts(create=within, update=within),
            ),
        )
        # After the Deployment: the provider waits for a Service's endpoints, and without pods there are none.
        service = declare(
            spec.name, manifests.service(spec), pulumi.ResourceOptions(parent=self, depends_on=[deployment])
        )
        budget = workloads.disruption_budget(spec.name, spec.namespace, spec.labels)
        rule = mesh.destination_rule(spec.name, spec.namespace, routing.host(self._name, release), spec.labels)
        return [
            deployment,
            service,
            declare(spec.name, budget, self._child),
            declare(f"{spec.name}-rule", rule, self._child),
        ]

    def _spec(self, release: str) -> ReleaseSpec:
        config = self._args.config.releases[release]
        return ReleaseSpec(
            model=self._name,
            release=release,
            config=config,
            settings=self._args.config,
            resolved=self._args.resolved[release],
            image=config.image or str(self._args.image),
            namespace=self._args.namespaces.models,
            mlflow_url=self._args.addons.mlflow.url,
        )

    def _network_policy(self) -> Manifest:
        args = self._args
        registry = (args.namespaces.platform, args.addons.mlflow.port)
        return manifests.network_policy(self._name, args.namespaces.models, args.addons.gateway.namespace, registry)

    def _route(self, ready: list[pulumi.Resource]) -> None:
        config = self._args.config
        manifest = routing.virtual_service(
            self._name,
            self._args.namespaces.models,
            self._args.addons.gateway.reference,
            routing.routes(self._name, config.releases, config.traffic),
            manifests.model_labels(self._name),
        )
        declare(f"{self._name}-route", manifest, pulumi.ResourceOptions(parent=self, depends_on=ready))
