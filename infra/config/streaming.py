"""Models that score the messages of a Kafka topic, and the topics of a stack."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from infra.config.base import TOPIC_PATTERN, ConfigModel, ImageRef, broken_rule
from infra.config.workload import ExtraEnvName, ModelReference, ResourcesConfig
from services.contract import Env

RELEASE = "stream"
"""Name of the one release that a stream model has, where something asks for releases."""

SHADOW = "shadow"
"""Name of its shadow, likewise."""

TopicName = Annotated[str, StringConstraints(pattern=TOPIC_PATTERN, max_length=249)]
"""A topic, as Kafka has it."""


class TopicConfig(ConfigModel):
    """A topic that the stack declares. What is taken out of the stack file stays in Kafka, with its messages."""

    partitions: Annotated[int, Field(ge=1, le=10_000)]
    """Partitions: how many workers can share it. More may be added, which moves keys; fewer are refused."""

    replication: Annotated[int, Field(ge=1, le=9)] = 1
    """Copies of each message; no more than there are brokers. Set when the topic is made."""

    retention_hours: Annotated[int, Field(ge=1, le=87_600)] = 168
    """How long messages are kept."""

    config: dict[str, str] = Field(default_factory=dict)
    """Further settings of the topic, by Kafka's names: `max.message.bytes`, `cleanup.policy`."""

    @field_validator("config")
    @classmethod
    def _said_once(cls, config: dict[str, str]) -> dict[str, str]:
        if "retention.ms" in config:
            raise broken_rule("said once: retention.ms is retentionHours", "drop it and set retentionHours")
        return config


class LagScalingConfig(ConfigModel):
    """How many workers a stream has."""

    min: Annotated[int, Field(ge=0, le=1000)] = 1
    """Workers that always run. With 0 a message brings the first one, and the last goes when all is answered."""

    max: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Workers at most; more than the input has partitions would idle. Without it there are always `min`."""

    lag: Annotated[int, Field(ge=1, le=100_000_000)] = 1000
    """Messages that may wait for each worker before there is another."""

    @property
    def automatic(self) -> bool:
        """Whether their number follows the lag."""
        return self.max is not None and self.max > self.min


class StreamModelConfig(ConfigModel):
    """A model that scores messages."""

    kind: Literal["stream"]
    """The model's kind."""

    model: ModelReference
    """The registered model, by version or by alias."""

    shadow: ModelReference | None = None
    """A model that sees a copy of the messages; its answers are compared and dropped."""

    input: TopicName
    """Topic with the messages: JSON objects of feature values."""

    output: TopicName
    """Topic for the answers."""

    dead_letter: TopicName
    """Topic for messages that cannot be scored, with the reason and the original bytes."""

    guarantee: Literal["exactly-once", "at-least-once"] = "exactly-once"
    """`exactly-once` by transactions; `at-least-once` is cheaper, and answers messages twice after a crash."""

    group: Annotated[str, StringConstraints(pattern=TOPIC_PATTERN, max_length=200)] | None = None
    """Consumer group of the workers. Default: the model's name. Another group reads the input from its beginning."""

    batch_rows: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Messages that are scored at once at most."""

    batch_ms: Annotated[float, Field(gt=0, le=10_000)] = 10
    """How long a batch waits for more messages, in milliseconds."""

    commit_ms: Annotated[float, Field(gt=0, le=30_000)] = 100
    """Time between two commits, in milliseconds."""

    scaling: LagScalingConfig = Field(default_factory=LagScalingConfig)
    """How many workers there are."""

    image: ImageRef | None = None
    """Image of the inference service, by digest; default: `slipway:images` entry `inference`."""

    resources: ResourcesConfig = Field(default_factory=ResourcesConfig)
    """What a worker gets."""

    env: dict[ExtraEnvName, str] = Field(default_factory=dict)
    """Extra environment variables of the workers; those that the program sets are refused."""

    startup_seconds: Annotated[int, Field(ge=10, le=3600)] = 120
    """Time that a worker may take to load its model and reach its brokers, in seconds."""

    @field_validator("env")
    @classmethod
    def _not_the_brokers(cls, env: dict[str, str]) -> dict[str, str]:
        for name in (Env.KAFKA_PROPERTIES, Env.KAFKA_IAM_REGION):
            if name in env:
                raise broken_rule(f"{name} is the platform's", "drop it")
        return env

    @property
    def references(self) -> dict[str, tuple[str, str]]:
        """By release: the key below the model, and the model reference that stands there."""
        shadow = {} if self.shadow is None else {SHADOW: ("shadow", self.shadow)}
        return {RELEASE: ("model", self.model), **shadow}
