"""Settings of the process, and the only reader (and writer) of its environment.

Every variable is named in `services.contract.Env`, documented there.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from services.contract import GRPC_PORT, HTTP_PORT, Env
from services.inference import msk
from services.inference.core.batcher import BatchLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
"""A name that is safe in a path, a label and a header."""


Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
"""`contract.artifact_digest` of an artifact."""


class EnvironmentSettings(BaseSettings):
    """Settings that come from the environment alone."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment only: no .env file, no secrets directory can change what a pod serves."""
        return init_settings, env_settings


class SourceSettings(EnvironmentSettings):
    """Where artifacts are fetched from: of every process that fetches one."""

    mlflow_tracking_uri: str | None = Field(None, validation_alias=Env.MLFLOW_TRACKING_URI)
    s3_endpoint_url: str | None = Field(None, validation_alias=Env.S3_ENDPOINT_URL)


class KafkaSettings(EnvironmentSettings):
    """How to sign in at Kafka: of every process that does."""

    kafka_properties: Path | None = Field(None, validation_alias=Env.KAFKA_PROPERTIES)
    kafka_iam_region: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] | None = Field(
        None, validation_alias=Env.KAFKA_IAM_REGION
    )

    @model_validator(mode="after")
    def _kafka_can_be_read(self) -> Self:
        self.kafka()
        return self

    def kafka(self) -> dict[str, Any]:
        """What librdkafka is told: the properties of the file that holds them, or how to sign in by IAM."""
        if self.kafka_iam_region is not None and self.kafka_properties is not None:
            raise ValueError(
                f"{Env.KAFKA_IAM_REGION} and {Env.KAFKA_PROPERTIES}: both given → one says how clients sign in"
            )
        if self.kafka_iam_region is not None:
            return {**msk.client(self.kafka_iam_region)}
        if self.kafka_properties is None:
            return {}
        where = f"{Env.KAFKA_PROPERTIES}: {self.kafka_properties}"
        try:
            lines = self.kafka_properties.read_text().splitlines()
        except OSError as error:
            raise ValueError(f"{where}: {error.strerror} → it is mounted and readable → mount it") from error
        pairs = [line.partition("=") for line in map(str.strip, lines) if line and not line.startswith("#")]
        for number, (key, equals, _) in enumerate(pairs, start=1):
            if not equals or not key.strip():  # its value may be a secret, and is not told
                raise ValueError(f"{where}, entry {number}: it has no '=' → a line is key=value → correct it")
        return {key.strip(): value.strip() for key, _, value in pairs}


class TopicsSettings(KafkaSettings):
    """Of what declares topics."""

    kafka_users: Path | None = Field(None, validation_alias=Env.KAFKA_USERS)


class Settings(SourceSettings, KafkaSettings):
    """Validated settings; a missing or wrong one ends the process with its variable's name."""

    model_name: Name | None = Field(None, validation_alias=Env.MODEL_NAME)
    model_uri: Annotated[str, StringConstraints(min_length=1)] | None = Field(None, validation_alias=Env.MODEL_URI)
    model_digest: Digest | None = Field(None, validation_alias=Env.MODEL_DIGEST)
    model_version: Name | None = Field(None, validation_alias=Env.MODEL_VERSION)
    shadow_uri: Annotated[str, StringConstraints(min_length=1)] | None = Field(None, validation_alias=Env.SHADOW_URI)
    shadow_digest: Digest | None = Field(None, validation_alias=Env.SHADOW_DIGEST)
    compare_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/@]+$")] | None = Field(
        None, validation_alias=Env.COMPARE_URL
    )
    compare_share: Annotated[float, Field(ge=0, le=1)] = Field(0.1, validation_alias=Env.COMPARE_SHARE)
    models_file: Path | None = Field(None, validation_alias=Env.MODELS_FILE)
    model_memory_bytes: PositiveInt | None = Field(None, validation_alias=Env.MODEL_MEMORY_BYTES)
    refresh_seconds: Annotated[float, Field(gt=0)] = Field(60.0, validation_alias=Env.REFRESH_SECONDS)
    repository_token: SecretStr | None = Field(None, validation_alias=Env.REPOSITORY_TOKEN, min_length=16)
    release: Name = Field("local", validation_alias=Env.RELEASE)
    cache_dir: Path = Field(Path("/var/cache/slipway"), validation_alias=Env.CACHE_DIR)
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", validation_alias=Env.LOG_LEVEL)
    access_log: Literal["errors", "all"] = Field("errors", validation_alias=Env.ACCESS_LOG)
    torch_threads: PositiveInt = Field(1, validation_alias=Env.TORCH_THREADS)
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field(
        "auto", validation_alias=Env.DEVICE
    )
    precision: Literal["float32", "bfloat16"] = Field("float32", validation_alias=Env.PRECISION)
    torch_compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = Field(
        "off", validation_alias=Env.TORCH_COMPILE
    )
    http_host: str = Field("0.0.0.0", validation_alias=Env.HTTP_HOST)  # noqa: S104  # a pod is reached from outside
    http_port: Annotated[int, Field(ge=0, le=65535)] = Field(HTTP_PORT, validation_alias=Env.HTTP_PORT)
    grpc_port: Annotated[int, Field(ge=0, le=65535)] = Field(GRPC_PORT, validation_alias=Env.GRPC_PORT)
    max_batch_rows: PositiveInt = Field(1024, validation_alias=Env.MAX_BATCH_ROWS)
    max_batch_bytes: PositiveInt = Field(64 * 1024 * 1024, validation_alias=Env.MAX_BATCH_BYTES)
    batch_buckets: Annotated[tuple[PositiveInt, ...], NoDecode] = Field((), validation_alias=Env.BATCH_BUCKETS)
    batch_padding: bool = Field(default=False, validation_alias=Env.BATCH_PADDING)
    max_queued_rows: PositiveInt = Field(4096, validation_alias=Env.MAX_QUEUED_ROWS)
    max_body_bytes: PositiveInt = Field(16 * 1024 * 1024, validation_alias=Env.MAX_BODY_BYTES)
    prediction_log: str | None = Field(None, validation_alias=Env.PREDICTION_LOG)
    prediction_log_share: Annotated[float, Field(ge=0, le=1)] = Field(0.01, validation_alias=Env.PREDICTION_LOG_SHARE)
    prediction_log_redact: Annotated[frozenset[str], NoDecode] = Field(
        frozenset(), validation_alias=Env.PREDICTION_LOG_REDACT
    )
    drain_seconds: PositiveInt = Field(25, validation_alias=Env.DRAIN_SECONDS)
    otlp_endpoint: Annotated[str, StringConstraints(pattern=r"^https?://")] | None = Field(
        None, validation_alias=Env.OTLP_ENDPOINT
    )
    termination_log: Path = Field(Path("/dev/termination-log"), validation_alias=Env.TERMINATION_LOG)

    @field_validator("batch_buckets", "prediction_log_redact", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        """What stands in a variable, separated by commas."""
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_a_model(self) -> Self:
        given = [
            variable
            for variable, value in ((Env.MODEL_NAME, self.model_name), (Env.MODEL_URI, self.model_uri))
            if value
        ]
        if self.models_file is None and len(given) < 2:  # noqa: PLR2004  # name and URI
            missing = next(v for v in (Env.MODEL_NAME, Env.MODEL_URI) if v not in given)
            raise ValueError(f"{missing}: missing → a process serves one model, or those of {Env.MODELS_FILE}")
        if self.models_file is not None and given:
            raise ValueError(f"{given[0]} and {Env.MODELS_FILE}: both given → one of the two says what is served")
        return self

    @model_validator(mode="after")
    def _batches_fit(self) -> Self:
        try:
            self.batch_limits()
        except ValueError as error:
            raise ValueError(f"{Env.BATCH_BUCKETS}, {Env.BATCH_PADDING}, {Env.MAX_BATCH_ROWS}: {error}") from error
        return self

    def batch_limits(self) -> BatchLimits:
        """The batcher's limits. Buckets without a number of rows end the batches, too."""
        given = "max_batch_rows" in self.model_fields_set
        rows = self.batch_buckets[-1] if self.batch_buckets and not given else self.max_batch_rows
        return BatchLimits(
            max_rows=rows,
            max_bytes=self.max_batch_bytes,
            max_queued_rows=self.max_queued_rows,
            buckets=self.batch_buckets,
            pad=self.batch_padding,
        )

    @model_validator(mode="after")
    def _compiled_for_fixed_sizes(self) -> Self:
        if self.torch_compile != "off" and not self.batch_padding:
            raise ValueError(
                f"{Env.TORCH_COMPILE} is {self.torch_compile} → a model is compiled for each batch size of a few → "
                f"set {Env.BATCH_BUCKETS} and {Env.BATCH_PADDING}"
            )
        return self


def prepare_process(cache_dir: Path) -> None:
    """Point third parties at the one writable directory; call it before they are imported.

    MLflow and torch look for a home and a temporary directory; the root file system is read-only.
    """
    scratch = cache_dir / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    writable: Mapping[str, str] = {
        "TMPDIR": str(scratch),
        "HOME": str(scratch),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Our own back-off decides: MLflow's seven retries take minutes, in each of our attempts.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    os.environ.update(writable)
    tempfile.tempdir = None  # read TMPDIR again
