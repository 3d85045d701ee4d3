"""A model that answers requests: releases, each a workload of its own, and the traffic between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pulumi

from infra import names
from infra.checks.hook import before_record, record
from infra.checks.live import Deployed
from infra.k8s import mesh, workloads
from infra.k8s.manifest import Manifest, declare, name_of
from infra.serving.realtime import facts, kserve, routing, scaling
from infra.serving.realtime import release as manifests
from infra.serving.realtime.release import ReleaseSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.access import Granted
    from infra.config.evidence import ChecklistConfig, EvidenceConfig
    from infra.config.models import RealtimeModelConfig
    from infra.outputs import AddonOutputs, PlatformOutputs
    from infra.registry.reference import ResolvedModel


@dataclass(frozen=True, kw_only=True)
class RealtimeModelArgs:
    """What a model is declared from."""

    config: RealtimeModelConfig
    resolved: Mapping[str, ResolvedModel]
    """What each release's reference stands for."""
    image: str | None
    """Image of the releases that name none of their own."""
    platform: PlatformOutputs
    topics: pulumi.Resource | None
    """Once this is there, so are the stack's topics and the rights to them; None where it has none."""
    addons: AddonOutputs
    gate: EvidenceConfig
    """What the releases have to show."""
    production: bool = False
    """Whether people depend on it."""
    checklist: ChecklistConfig
    """What has to hold after an update."""
    registry: str
    """MLflow's address from the machine that runs the program."""


class Workload(NamedTuple):
    """What makes the pods of a release."""

    resource: pulumi.CustomResource
    deployment: str
    """Name of their Deployment."""
    container: str
    """Name of the service's container."""


class RealtimeModel(pulumi.ComponentResource):
    """Releases and their traffic, in an order that never sends a request to what cannot answer.

    1. A new release's objects are made, and its pods become ready; if they do not, the update ends here.
    2. The route changes: weights reach only releases that step 1 has seen ready.
    3. The post-deployment checklist holds, and that is recorded.
    4. What left the configuration is deleted, last of all: Pulumi deletes after it has created and
       updated everything else, and the pods go on answering while the gateway learns of step 2.
    """

    endpoint: str
    """Base address for callers, without a final slash."""

    def __init__(self, name: str, args: RealtimeModelArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = facts.inputs(name, args.config, args.resolved, args.gate, production=args.production)
        super().__init__("slipway:serving:RealtimeModel", name, inputs, opts)
        self._name = name
        self._args = args
        self._facts = inputs
        self.endpoint = f"{args.addons.gateway.url}{names.model_path(name)}"
        self._child = pulumi.ResourceOptions(parent=self)
        self._runtime: pulumi.CustomResource | None = None
        policy = declare(name, self._network_policy(), self._child)
        declared = {release: self._release(release, policy) for release in args.config.releases}
        # Nobody waits for the shadow: a copy that it cannot take is lost to nobody.
        self._route([each for release, of in declared.items() if release != args.config.shadow for each in of])
        self.register_outputs({"endpoint": self.endpoint})

    def _release(self, release: str, policy: pulumi.Resource) -> list[pulumi.Resource]:
        needs = manifests.needs(self._args.config)
        namespace = self._args.platform.namespaces.models
        granted = self._args.platform.access.grant(names.workload(self._name, release), namespace, needs, self._child)
        spec = self._spec(release, granted)
        account = workloads.service_account(spec.name, spec.namespace, spec.labels)
        before = [policy, *granted.after]
        if spec.mtls:
            before.append(self._args.addons.gateway.ready)
        if needs.produces and self._args.topics is not None:
            before.append(self._args.topics)
        made = self._workload(spec, name_of(declare(spec.name, account, self._child)), before)
        # After the workload: the provider waits for a Service's endpoints, and without pods there are none.
        after = pulumi.ResourceOptions(parent=self, depends_on=[made.resource])
        service = declare(spec.name, manifests.service(spec), after)
        budget = workloads.disruption_budget(spec.name, spec.namespace, spec.labels)
        rule = mesh.destination_rule(spec.name, spec.namespace, manifests.host(self._name, release), spec.labels)
        meshed = pulumi.ResourceOptions(parent=self, depends_on=[self._args.addons.gateway.ready])
        declared: list[pulumi.Resource] = [
            made.resource,
            service,
            declare(spec.name, budget, self._child),
            declare(f"{spec.name}-rule", rule, meshed),
        ]
        if spec.settings.scaling.automatic and not spec.settings.knative:
            declared.append(declare(spec.name, scaling.autoscaler(spec, made.deployment, made.container), after))
        return declared

    def _workload(self, spec: ReleaseSpec, account: pulumi.Input[str], before: list[pulumi.Resource]) -> Workload:
        within = f"{manifests.deadline_seconds(spec.settings)}s"
        options = pulumi.ResourceOptions(
            parent=self,
            depends_on=before,
            custom_timeouts=pulumi.CustomTimeouts(create=within, update=within),
        )
        if spec.settings.runtime == "kserve":
            pod = manifests.pod(spec, account).template()["spec"]
            runtime = name_of(self._serving_runtime(spec, pod))
            service = declare(spec.name, kserve.inference_service(spec, runtime, pod), options)
            return Workload(service, spec.name + kserve.PREDICTOR, kserve.CONTAINER)
        if spec.settings.scaling.automatic:
            # Their number is the autoscaler's from then on.
            options.ignore_changes = ["spec.replicas"]
        deployment = declare(spec.name, manifests.deployment(spec, account), options)
        return Workload(deployment, spec.name, manifests.CONTAINER)

    def _serving_runtime(self, spec: ReleaseSpec, pod: Manifest) -> pulumi.CustomResource:
        if self._runtime is None:
            addon = self._args.addons.kserve
            options = pulumi.ResourceOptions(parent=self, depends_on=addon.ready if addon else None)
            self._runtime = declare(self._name, kserve.serving_runtime(self._name, spec, pod), options)
        return self._runtime

    def _spec(self, release: str, granted: Granted) -> ReleaseSpec:
        config = self._args.config.releases[release]
        return ReleaseSpec(
            model=self._name,
            release=release,
            config=config,
            settings=self._args.config,
            resolved=self._args.resolved[release],
            image=self._image(release),
            platform=self._args.platform,
            mlflow_url=self._args.addons.mlflow.url,
            granted=granted,
            mtls=self._args.addons.gateway.mtls,
        )

    def _image(self, release: str) -> str:
        return self._args.config.releases[release].image or str(self._args.image)

    def _network_policy(self) -> Manifest:
        args = self._args
        registry = (args.platform.namespaces.platform, args.addons.mlflow.port)
        return manifests.network_policy(
            self._name,
            args.platform.namespaces.models,
            args.addons.gateway.namespace,
            registry,
            args.config.shadow,
            mtls=args.addons.gateway.mtls,
        )

    def _route(self, ready: list[pulumi.Resource]) -> None:
        config = self._args.config
        manifest = routing.virtual_service(
            self._name,
            self._args.platform.namespaces.models,
            self._args.addons.gateway.reference,
            routing.routes(self._name, config),
            manifests.model_labels(self._name),
        )
        route = declare(f"{self._name}-route", manifest, pulumi.ResourceOptions(parent=self, depends_on=ready))
        if config.sticky is not None:
            gateway = self._args.addons.gateway
            sticky = mesh.sticky_route(
                names.route(self._name),
                gateway.namespace,
                gateway.selector,
                routing.weighted_route(self._name),
                config.sticky.header,
                manifests.model_labels(self._name),
            )
            route = declare(f"{self._name}-sticky", sticky, pulumi.ResourceOptions(parent=self, depends_on=[route]))
        if self._args.checklist.enabled:
            self._checklist(route)

    def _checklist(self, route: pulumi.Resource) -> None:
        """The post-deployment checklist, of what answers once the route is there."""
        checklist = self._args.checklist
        monitoring = self._args.addons.monitoring
        # Without the shadow: no update waits for it, and nothing is compared before callers send something.
        shadow = self._args.config.shadow
        deployed = Deployed(
            model=self._name,
            endpoint=self.endpoint,
            releases={name: said for name, said in self._facts["releases"].items() if name != shadow},
            shadow=None,
            registry=self._args.registry,
            prometheus=None if monitoring is None else monitoring.public_url,
        )
        answering = {release: self._answering(release) for release in sorted(deployed.releases)}
        passed = {"releases": answering, "traffic": self._args.config.traffic}
        manifest = record(self._name, self._args.platform.namespaces.models, manifests.model_labels(self._name), passed)
        hooks = before_record(deployed, checklist.timeout_seconds)
        options = pulumi.ResourceOptions(parent=self, depends_on=[route], hooks=hooks)
        declare(f"{self._name}-checklist", manifest, options)

    def _answering(self, release: str) -> dict[str, str]:
        """What decides how a release answers: its model and its code."""
        resolved = self._args.resolved[release]
        return {"version": resolved.version, "digest": resolved.digest, "image": self._image(release)}
