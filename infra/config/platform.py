"""What an environment stands on, one class per kind of platform."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from infra.config.accelerators import AcceleratorName  # noqa: TC001 (pydantic reads it at run time)
from infra.config.aws import AwsPlatformConfig
from infra.config.base import ConfigModel, Quantity


class KafkaConfig(ConfigModel):
    """A Kafka broker in the cluster, for streams."""

    enabled: bool = False
    """Whether there is one."""

    volume: Quantity = "10Gi"
    """Size of its volume: what all topics keep, for as long as they keep it."""

    memory: Quantity = "1Gi"
    """Memory of the broker; half of it is Java's heap."""


class LocalPlatformConfig(ConfigModel):
    """One machine, or any cluster of one's own: S3 and MLflow run in the cluster itself."""

    kind: Literal["local"]
    """The platform's kind."""

    gateway_port: Annotated[int, Field(ge=1024, le=32767)] = 8080
    """Port of the gateway on the node and on 127.0.0.1; the cluster's NodePort range must contain it."""

    object_store_size: Quantity = "10Gi"
    """Size of the volume under S3; it holds every model artifact."""

    kafka: KafkaConfig = Field(default_factory=KafkaConfig)
    """Kafka."""

    gpus: dict[AcceleratorName, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """GPUs of each kind that the cluster's nodes have: what all releases together may ask for at their peak."""


PlatformConfig: TypeAlias = Annotated[LocalPlatformConfig | AwsPlatformConfig, Field(discriminator="kind")]
"""Union of the platforms by `kind`."""
