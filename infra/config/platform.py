"""What an environment stands on, one class per kind of platform.

Each tells the same before anything is deployed: `url` of its gateway and whether that is `internal`, `gpus` and
`brokers` that it has, `images` that it runs itself, and `kafka_key`, the key that gives it Kafka.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field, StringConstraints

from infra.config.accelerators import AcceleratorName  # noqa: TC001 (pydantic reads it at run time)
from infra.config.aws import AwsPlatformConfig
from infra.config.base import STACK_PATTERN, ConfigModel, HttpUrl, Quantity

GATEWAY_HOST = "127.0.0.1"
"""The embedded cluster, kind and k3d all map the gateway's port to the machine's loopback."""


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

    kafka_key: ClassVar[str] = "kafka.enabled"

    internal: ClassVar[bool] = True
    """The machine's loopback."""

    @property
    def url(self) -> str:
        """Base address of the gateway, without a final slash."""
        return f"http://{GATEWAY_HOST}:{self.gateway_port}"

    @property
    def brokers(self) -> int:
        """Brokers of Kafka."""
        return 1 if self.kafka.enabled else 0

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images that the platform runs: MLflow's has what makes S3's buckets."""
        return ("mlflow", "object-store", *(("kafka",) if self.kafka.enabled else ()))


class ReferencePlatformConfig(ConfigModel):
    """A platform that another stack has deployed, with `deploys: platform`.

    What previews must know before they ask that stack is said here, too; an update fails where it says otherwise.
    """

    kind: Literal["reference"]
    """The platform's kind."""

    stack: Annotated[str, StringConstraints(pattern=STACK_PATTERN)]
    """That stack: `<organization>/<project>/<stack>`."""

    url: HttpUrl
    """Base address of its gateway, without a final slash."""

    internal: bool = True
    """Whether only its own network reaches its gateway."""

    brokers: Annotated[int, Field(ge=0)] = 0
    """Brokers of its Kafka; 0 where it has none."""

    gpus: dict[AcceleratorName, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """GPUs of each kind that its pools have at most."""

    kafka_key: ClassVar[str] = "brokers"

    images: ClassVar[tuple[str, ...]] = ()
    """None: that stack runs them."""


PlatformConfig: TypeAlias = Annotated[
    LocalPlatformConfig | AwsPlatformConfig | ReferencePlatformConfig, Field(discriminator="kind")
]
"""Union of the platforms by `kind`."""
