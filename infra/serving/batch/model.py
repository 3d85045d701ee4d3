"""A model that scores a table whenever its schedule says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.k8s import workloads
from infra.k8s.manifest import declare, name_of
from infra.serving.batch import facts
from infra.serving.batch import job as manifests
from infra.serving.batch.job import JobSpec

if TYPE_CHECKING:
    from infra.config.batch import BatchModelConfig
    from infra.config.evidence import EvidenceConfig
    from infra.outputs import Mlflow, PlatformOutputs
    from infra.registry.reference import ResolvedModel


@dataclass(frozen=True, kw_only=True)
class BatchModelArgs:
    """What a batch model is declared from."""

    config: BatchModelConfig
    resolved: ResolvedModel
    """What the model's reference stands for."""
    image: str | None
    """Image of the job, where the model names none of its own."""
    platform: PlatformOutputs
    mlflow: Mlflow
    gate: EvidenceConfig
    """What the model has to show."""
    production: bool = False
    """Whether people depend on it."""


class BatchModel(pulumi.ComponentResource):
    """A CronJob with an identity of its own and no more ways out than it needs.

    A change of the model, the image or the schedule is one of the CronJob: a run that is under way ends as it began.
    """

    def __init__(self, name: str, args: BatchModelArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = facts.inputs(name, args.config, args.resolved, args.gate, production=args.production)
        super().__init__("slipway:serving:BatchModel", name, inputs, opts)
        child = pulumi.ResourceOptions(parent=self)
        granted = args.platform.access.grant(
            names.batch_job(name), args.platform.namespaces.models, manifests.needs(args.config), child
        )
        spec = JobSpec(
            model=name,
            config=args.config,
            resolved=args.resolved,
            image=args.config.image or str(args.image),
            platform=args.platform,
            mlflow=args.mlflow,
            granted=granted,
        )
        policy = declare(spec.name, manifests.network_policy(spec), child)
        account = declare(spec.name, workloads.service_account(spec.name, spec.namespace, spec.labels), child)
        # After the policy: no run begins with more ways out than it should have.
        after = pulumi.ResourceOptions(parent=self, depends_on=[policy, *granted.after])
        declare(spec.name, manifests.cron_job(spec, name_of(account)), after)
        self.register_outputs({"schedule": args.config.schedule})
