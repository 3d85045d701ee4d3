"""The whole configuration of a stack."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import Field, ValidationInfo, field_validator

from infra.config.addons import AddonsConfig
from infra.config.aws import AwsPlatformConfig
from infra.config.base import ConfigModel, HttpUrl, ImageRef, ModelName, broken_rule
from infra.config.evidence import ChecklistConfig, EvidenceConfig
from infra.config.models import ModelConfig  # noqa: TC001 (pydantic reads it at run time)
from infra.config.platform import PlatformConfig  # noqa: TC001
from infra.config.streaming import TopicConfig, TopicName  # noqa: TC001

ImageName: TypeAlias = Literal[
    "inference",
    "batch",
    "ray",
    "mlflow",
    "object-store",
    "istiod",
    "istio-proxy",
    "istio-cni",
    "prometheus",
    "prometheus-adapter",
    "kserve",
    "keda",
    "kuberay",
    "kafka",
]
"""Images that this repository builds (`slipway images build`)."""


class RegistryConfig(ConfigModel):
    """Where model references are resolved."""

    url: HttpUrl | None = None
    """MLflow's address as this machine reaches it. Default: the platform's own MLflow behind its gateway."""


class StackConfig(ConfigModel):
    """Everything under `slipway:` in `Pulumi.<stack>.yaml`."""

    platform: PlatformConfig
    """What the environment stands on."""

    deploys: Literal["everything", "platform"] = "everything"
    """What the stack deploys: everything, or the platform alone, which other stacks then build on by
    `platform: { kind: reference }`."""

    addons: AddonsConfig = Field(default_factory=AddonsConfig)
    """What is installed on the platform before any model."""

    registry: RegistryConfig = Field(default_factory=RegistryConfig)
    """Where model references are resolved."""

    production: bool = False
    """Whether people depend on it: versions are then pinned, and releases with traffic have several replicas."""

    evidence: EvidenceConfig = Field(default_factory=EvidenceConfig)
    """What a release has to show before traffic reaches it."""

    checklist: ChecklistConfig = Field(default_factory=ChecklistConfig)
    """What has to hold after an update."""

    images: dict[ImageName, ImageRef] = Field(default_factory=dict)
    """Images by name. Default: those that `slipway images build` recorded in `build/images.json`."""

    topics: dict[TopicName, TopicConfig] = Field(default_factory=dict)
    """Kafka topics by name, declared before any model. They outlive the stack file's mention of them."""

    models: dict[ModelName, ModelConfig]
    """Models by name. `{}` deploys the environment alone and asks no registry."""

    @property
    def mtls(self) -> bool:
        """Whether models answer those alone who show a certificate of the mesh."""
        said = self.addons.istio.mtls
        return self.platform.kind != "local" if said is None else said == "strict"

    @field_validator("deploys")
    @classmethod
    def _a_platform_that_others_can_refer_to(cls, deploys: str, info: ValidationInfo) -> str:
        if deploys == "platform" and not isinstance(info.data.get("platform"), AwsPlatformConfig):
            raise broken_rule("others build on a platform of kind aws", "set platform.kind to aws, or drop deploys")
        return deploys

    @field_validator("topics", "models")
    @classmethod
    def _not_on_a_platform_alone(cls, declared: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if declared and info.data.get("deploys") == "platform":
            raise broken_rule("a stack that deploys the platform alone has none", "move them to a stack on top of it")
        return declared
