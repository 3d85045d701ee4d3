"""Settings of a stream worker: the service's of models and logs, and what a stream has besides."""

from __future__ import annotations

import socket
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, StringConstraints, model_validator

from services.contract import Env
from services.inference.core.batcher import BatchLimits
from services.inference.settings import Settings

TopicName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
"""As Kafka has it."""

GroupName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,200}$")]

OURS = frozenset(
    {
        "bootstrap.servers", "client.id", "delivery.report.only.error", "enable.auto.commit",
        "enable.auto.offset.store", "enable.idempotence", "group.id", "isolation.level", "on_delivery",
        "transactional.id",
    }
)  # fmt: skip
"""Properties that the guarantee rests on, or that variables of their own say."""


class StreamSettings(Settings):
    """Validated settings; a missing or wrong one ends the process with its variable's name."""

    brokers: Annotated[str, StringConstraints(pattern=r"^[^\s:,]+:\d+(,[^\s:,]+:\d+)*$")] = Field(
        validation_alias=Env.STREAM_BROKERS
    )
    input: TopicName = Field(validation_alias=Env.STREAM_INPUT)
    output: TopicName = Field(validation_alias=Env.STREAM_OUTPUT)
    dead_letter: TopicName = Field(validation_alias=Env.STREAM_DEAD_LETTER)
    group: GroupName = Field(validation_alias=Env.STREAM_GROUP)
    worker: GroupName = Field(default_factory=socket.gethostname, validation_alias=Env.STREAM_WORKER)
    guarantee: Literal["exactly-once", "at-least-once"] = Field("exactly-once", validation_alias=Env.STREAM_GUARANTEE)
    batch_rows: PositiveInt = Field(512, validation_alias=Env.STREAM_BATCH_ROWS)
    batch_ms: Annotated[float, Field(gt=0, le=10_000)] = Field(10.0, validation_alias=Env.STREAM_BATCH_MS)
    commit_ms: Annotated[float, Field(gt=0, le=30_000)] = Field(100.0, validation_alias=Env.STREAM_COMMIT_MS)
    max_message_bytes: PositiveInt | None = Field(None, validation_alias=Env.STREAM_MAX_MESSAGE_BYTES)

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if self.models_file is not None:
            raise ValueError(f"{Env.MODELS_FILE}: given → a stream has one model → set {Env.MODEL_URI} instead")
        return self

    @model_validator(mode="after")
    def _topics_differ(self) -> Self:
        if len({self.input, self.output, self.dead_letter}) < 3:  # noqa: PLR2004  # there are three
            raise ValueError(
                f"{Env.STREAM_INPUT}, {Env.STREAM_OUTPUT}, {Env.STREAM_DEAD_LETTER}: two are the same → a worker that "
                "reads what it writes never ends → name three topics"
            )
        return self

    @model_validator(mode="after")
    def _properties_leave_the_guarantee(self) -> Self:
        for name in sorted(OURS & self.kafka().keys()):
            raise ValueError(f"{Env.KAFKA_PROPERTIES}: {name} → the worker sets it itself → drop the line")
        return self

    def batch_limits(self) -> BatchLimits:
        """Warm up for whole micro-batches; there is no queue of requests here."""
        return BatchLimits(max_rows=self.batch_rows, max_bytes=self.max_batch_bytes, max_queued_rows=self.batch_rows)

    def client(self) -> dict[str, Any]:
        """What every client of the brokers is told."""
        return {
            # With "rebootstrap", its default, librdkafka 2.16 forgets a broker that is away, and with it where the
            # transaction's coordinator is: the next commit then waits for ever. Seen with a cluster of one broker.
            "metadata.recovery.strategy": "none",
            "reconnect.backoff.max.ms": "1000",
            **self.kafka(),
            "bootstrap.servers": self.brokers,
            "client.id": f"{self.group}-{self.worker}",
        }
