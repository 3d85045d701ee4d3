"""A model that scores the messages of a topic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.k8s import workloads
from infra.k8s.manifest import declare, name_of
from infra.serving.streaming import facts
from infra.serving.streaming import worker as manifests
from infra.serving.streaming.worker import WorkerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.config.evidence import EvidenceConfig
    from infra.config.streaming import StreamModelConfig
    from infra.outputs import AddonOutputs, PlatformOutputs
    from infra.registry.reference import ResolvedModel


@dataclass(frozen=True, kw_only=True)
class StreamModelArgs:
    """What a stream model is declared from."""

    config: StreamModelConfig
    resolved: Mapping[str, ResolvedModel]
    """What its references stand for: the model's, and the shadow's where there is one."""
    image: str | None
    """Image of the workers, where the model names none of its own."""
    platform: PlatformOutputs
    topics: pulumi.Resource
    """Once this is there, so are the stack's topics and the rights to them."""
    addons: AddonOutputs
    gate: EvidenceConfig
    """What the model has to show."""
    production: bool = False
    """Whether people depend on it."""


class StreamModel(pulumi.ComponentResource):
    """Workers of one consumer group, after their topics are there.

    A change of the model or its settings rolls them one by one; each commits what it began, and the next goes on there.
    """

    def __init__(self, name: str, args: StreamModelArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = facts.inputs(name, args.config, args.resolved, args.gate, production=args.production)
        super().__init__("slipway:serving:StreamModel", name, inputs, opts)
        child = pulumi.ResourceOptions(parent=self)
        kafka, namespace = args.platform.kafka, args.platform.namespaces.models
        if kafka is None:
            raise AssertionError("streams without Kafka are refused with the configuration")
        granted = args.platform.access.grant(names.stream(name), namespace, manifests.needs(name, args.config), child)
        spec = WorkerSpec(
            model=name,
            config=args.config,
            resolved=args.resolved,
            image=args.config.image or str(args.image),
            namespaces=args.platform.namespaces,
            kafka=kafka,
            mlflow=args.addons.mlflow,
            granted=granted,
        )
        policy = declare(spec.name, manifests.network_policy(spec), child)
        account = declare(spec.name, workloads.service_account(spec.name, spec.namespace, spec.selector), child)
        within = f"{manifests.deadline_seconds(args.config)}s"
        options = pulumi.ResourceOptions(
            parent=self,
            depends_on=[policy, args.topics, *granted.after],
            custom_timeouts=pulumi.CustomTimeouts(create=within, update=within),
            # Their number is the autoscaler's where there is one.
            ignore_changes=["spec.replicas"] if args.config.scaling.automatic else None,
        )
        running = declare(spec.name, manifests.deployment(spec, name_of(account)), options)
        declare(spec.name, workloads.disruption_budget(spec.name, spec.namespace, spec.selector), child)
        keda = args.addons.keda
        if args.config.scaling.automatic and keda is not None:
            scaler = manifests.scaled_object(spec, name_of(running), keda.kafka_authentication)
            declare(spec.name, scaler, pulumi.ResourceOptions(parent=self, depends_on=[running, keda.operator]))
        self.register_outputs({"group": spec.group})
