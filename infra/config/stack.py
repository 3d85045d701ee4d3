"""The whole configuration of a stack."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from infra.config.addons import AddonsConfig
from infra.config.base import ConfigModel, HttpUrl, ImageRef, ModelName
from infra.config.evidence import ChecklistConfig, EvidenceConfig
from infra.config.models import ModelConfig  # noqa: TC001 (pydantic reads it at run time)
from infra.config.platform import PlatformConfig  # noqa: TC001
from infra.config.streaming import TopicConfig, TopicName  # noqa: TC001

ImageName: TypeAlias = Literal[
    "inference",
    "batch",
    "mlflow",
    "object-store",
    "istiod",
    "istio-proxy",
    "prometheus",
    "prometheus-adapter",
    "kserve",
    "keda",
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
