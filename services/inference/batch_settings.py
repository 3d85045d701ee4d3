"""Settings of a batch job: those of the service that fit, and its own; and what Prefect is told by its environment."""

from __future__ import annotations

import os
import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AwareDatetime,
    Field,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode

from services.contract import Env
from services.inference.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

DATE = "{date}"
"""In the input's or the output's address it stands for the day that a run is for."""

_SCHEDULED = re.compile(r"-(\d{8})$")
"""A CronJob names its Jobs after the minute, since 1970, that each was due at."""


class BatchSettings(Settings):
    """What a batch job reads, writes and tolerates."""

    input: Annotated[str, StringConstraints(min_length=1)] = Field(validation_alias=Env.BATCH_INPUT)
    output: Annotated[str, StringConstraints(min_length=1)] = Field(validation_alias=Env.BATCH_OUTPUT)
    passthrough: Annotated[tuple[str, ...] | None, NoDecode] = Field(None, validation_alias=Env.BATCH_PASSTHROUGH)
    quarantine_share: Annotated[float, Field(ge=0, le=1)] = Field(0.0, validation_alias=Env.BATCH_QUARANTINE_SHARE)
    part_rows: PositiveInt = Field(1_000_000, validation_alias=Env.BATCH_PART_ROWS)
    engine: Literal["local", "ray"] = Field("local", validation_alias=Env.BATCH_ENGINE)
    workers: PositiveInt = Field(2, validation_alias=Env.BATCH_WORKERS)
    worker_gpus: NonNegativeInt = Field(0, validation_alias=Env.BATCH_WORKER_GPUS)
    day: Annotated[str, StringConstraints(pattern=r"^(today|yesterday|\d{4}-\d{2}-\d{2})$")] = Field(
        "today", validation_alias=Env.BATCH_DAY
    )
    timezone: str = Field("UTC", validation_alias=Env.BATCH_TIMEZONE)
    job_name: str = Field("", validation_alias=Env.BATCH_JOB_NAME)
    timestamp: AwareDatetime | None = Field(None, validation_alias=Env.BATCH_TIMESTAMP)
    prefect_api_url: Annotated[str, StringConstraints(pattern=r"^https?://")] | None = Field(
        None, validation_alias=Env.PREFECT_API_URL
    )
    # A batch job waits for nobody: more rows at once than the service takes.
    max_batch_rows: PositiveInt = Field(4096, validation_alias=Env.MAX_BATCH_ROWS)

    @field_validator("passthrough", mode="before")
    @classmethod
    def _columns(cls, value: object) -> object:
        """Names separated by commas; `-` alone is none."""
        if not isinstance(value, str):
            return value
        return () if value == "-" else tuple(name.strip() for name in value.split(",") if name.strip())

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{name!r} → a time zone → one of the IANA database, Europe/Berlin say") from error
        return name

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if self.models_file is not None:
            raise ValueError(f"{Env.MODELS_FILE} → a batch job has one model → set {Env.MODEL_URI}")
        return self

    def began(self, now: datetime) -> datetime:
        """When the run was due, so that a pod that is tried again after midnight is for the same day; else now."""
        due = _SCHEDULED.search(self.job_name)
        return datetime.fromtimestamp(int(due[1]) * 60, UTC) if due else now

    def date(self, now: datetime) -> date:
        """The day that the run is for."""
        today = self.began(now).astimezone(ZoneInfo(self.timezone)).date()
        if self.day in ("today", "yesterday"):
            return today - timedelta(days=self.day == "yesterday")
        return date.fromisoformat(self.day)


class LaunchSettings(BaseSettings):
    """Of whom a run is made, and for which Job. Kubernetes sets them all."""

    rayjob: str = Field(validation_alias=Env.BATCH_RAYJOB)
    job_name: str = Field(validation_alias=Env.BATCH_JOB_NAME)
    job_uid: str = Field(validation_alias=Env.BATCH_JOB_UID)

    @field_validator("job_name")
    @classmethod
    def _not_the_copied(cls, name: str, info: ValidationInfo) -> str:
        if name == info.data.get("rayjob"):
            raise ValueError(f"{name!r} → what a run is a copy of has this name → give the Job another")
        return name


def prepare_prefect(cache_dir: Path, api_url: str | None) -> None:
    """Keep Prefect within the cache directory, quiet, and away from every server but the one that is named.

    Call it before Prefect is imported: it reads its settings then.
    """
    home = cache_dir / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    chosen = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # An error is told once, by us, in one line.
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    }
    if api_url is None:
        chosen |= {
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
            "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",
            # Events go to a server; without one they are left out only for those who have a key for another.
            "PREFECT_API_KEY": "unused",
        }
    os.environ.update(chosen)
