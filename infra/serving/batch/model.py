"""A model that scores a table whenever its schedule says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.k8s import workloads
from infra.k8s.manifest import declare, name_of
from infra.serving.batch import facts, ray_job
from infra.serving.batch import job as manifests
from infra.serving.batch.job import JobSpec

if TYPE_CHECKING:
    from infra.config.batch import BatchModelConfig, RayConfig
    from infra.config.evidence import EvidenceConfig
    from infra.k8s.workloads import Pod
    from infra.outputs import Kuberay, Mlflow, PlatformOutputs
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
    kuberay: Kuberay | None = None
    """KubeRay, for a model on Ray."""
    production: bool = False
    """Whether people depend on it."""


class BatchModel(pulumi.ComponentResource):
    """A CronJob with an identity of its own and no more ways out than it needs; on Ray, what its runs are copies of.

    A change of the model, the image or the schedule is one of the CronJob or of that: a run that is under way ends as
    it began.
    """

    def __init__(self, name: str, args: BatchModelArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = facts.inputs(name, args.config, args.resolved, args.gate, production=args.production)
        super().__init__("slipway:serving:BatchModel", name, inputs, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        granted = args.platform.access.grant(
            names.batch_job(name), args.platform.namespaces.models, manifests.needs(args.config), self._child
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
        account = name_of(
            declare(spec.name, workloads.service_account(spec.name, spec.namespace, spec.labels), self._child)
        )
        if args.config.cluster is None:
            pod = manifests.scoring_pod(spec, account)
            after: list[pulumi.Resource] = [declare(spec.name, manifests.network_policy(spec), self._child)]
        else:
            pod, after = self._on_ray(spec, args.config.cluster, account, args.kuberay)
        # After the policy: no run begins with more ways out than it should have.
        scheduled = pulumi.ResourceOptions(parent=self, depends_on=[*after, *granted.after])
        declare(spec.name, manifests.cron_job(spec, pod), scheduled)
        self.register_outputs({"schedule": args.config.schedule})

    def _on_ray(
        self, spec: JobSpec, cluster: RayConfig, account: pulumi.Output[str], kuberay: Kuberay | None
    ) -> tuple[Pod, list[pulumi.Resource]]:
        """What the schedule starts, and what comes before it."""
        if kuberay is None:
            raise AssertionError("a model on Ray without KubeRay is refused with the configuration")
        launcher = names.launcher(spec.model)
        labels = ray_job.launcher_labels(spec)
        maker = name_of(declare(launcher, workloads.service_account(launcher, spec.namespace, labels), self._child))
        policy = declare(spec.name, ray_job.cluster_policy(spec, kuberay), self._child)
        copied = pulumi.ResourceOptions(parent=self, depends_on=[kuberay.operator, policy])
        template = declare(spec.name, ray_job.ray_job(spec, cluster, account), copied)
        allowed = [
            declare(f"{launcher}-{kind}", manifest, self._child)
            for kind, manifest in ray_job.launcher_manifests(spec, maker).items()
        ]
        return ray_job.launching_pod(spec, maker), [template, *allowed]
