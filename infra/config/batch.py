"""Models that score tables on a schedule."""

from __future__ import annotations

import zoneinfo
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from infra.config.base import ConfigModel, ImageRef, Quantity, TablePath, broken_rule
from infra.config.cron import Schedule  # noqa: TC001 (pydantic reads it at run time)
from infra.config.workload import ExtraEnvName, ModelReference, ResourcesConfig
from services.contract import Env

RELEASE = "batch"
"""Name of the one release that a batch model has, where something asks for releases."""

INPUTS, OUTPUTS = ("features", "predictions"), ("predictions",)
"""The platform's buckets by role: those that a job may read and those that it may write."""


def _below(buckets: tuple[str, ...], text: str) -> str:
    bucket, slash, path = text.partition("/")
    if bucket not in buckets or not slash or not path:
        raise broken_rule(
            "a bucket of the platform and what is below it", f"start with {' or '.join(f'{name}/' for name in buckets)}"
        )
    for brace in ("{", "}"):
        if brace in text.replace("{date}", ""):
            raise broken_rule("the only thing in braces is {date}", "write {date}, or drop the braces")
    return text


def _input(text: str) -> str:
    return _below(INPUTS, text)


def _output(text: str) -> str:
    if set("*?[") & set(text):
        raise broken_rule("one place", "drop the wildcard")
    return _below(OUTPUTS, text)


def _zone(name: str) -> str:
    if name not in zoneinfo.available_timezones():
        raise broken_rule("a time zone of the IANA database", "write UTC, or a name like Europe/Berlin")
    return name


class HistoryConfig(ConfigModel):
    """How many ended jobs stay to be looked at."""

    succeeded: Annotated[int, Field(ge=0, le=100)] = 3
    """Jobs that succeeded."""

    failed: Annotated[int, Field(ge=0, le=100)] = 3
    """Jobs that failed."""


class HeadConfig(ConfigModel):
    """What the head of a Ray cluster gets: the cluster's own processes, and the job that hands out parts."""

    cpu: Quantity = "500m"
    """Cores that are reserved for it."""

    cpu_limit: Quantity = "2"
    """Cores it may use at most."""

    memory: Quantity = "4Gi"
    """Memory, reserved and limited alike. It loads the model, too."""


class RayConfig(ConfigModel):
    """The Ray cluster that each run has of its own."""

    workers: Annotated[int, Field(ge=1, le=100)] = 2
    """Pods that score, each with `resources` and the model. A run begins when all of them are there."""

    head: HeadConfig = Field(default_factory=HeadConfig)
    """The one pod beside them."""


class BatchModelConfig(ConfigModel):
    """A model that scores a table on a schedule."""

    kind: Literal["batch"]
    """The model's kind."""

    model: ModelReference
    """The registered model, by version or by alias."""

    input: Annotated[TablePath, AfterValidator(_input)]
    """Parquet that is scored: `features/<path>` or `predictions/<path>`, a directory, a file or a glob in the
    platform's bucket of that role. `{date}` is the day that a run is for."""

    output: Annotated[TablePath, AfterValidator(_output)]
    """Where the table appears: `predictions/<path>`; `{date}` likewise."""

    schedule: Schedule
    """When a run is due: `minute hour day-of-month month day-of-week`, or `@daily` and the like."""

    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """Time zone of the schedule and of the day, `Europe/Berlin` say."""

    day: Literal["today", "yesterday"] = "today"
    """Which day a run is for: the one on which it is due, or the one before."""

    suspend: bool = False
    """Whether no run begins until this is false again; one that runs goes on."""

    engine: Literal["local", "ray"] = "local"
    """What scores: one pod, or a Ray cluster of its own."""

    ray: RayConfig | None = None
    """The Ray cluster, where the engine is `ray`; two workers unless said."""

    passthrough: list[str] | None = None
    """Input columns that the output has, too. All of them unless said; `[]` is none."""

    quarantine_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the rows that may turn out not to be scorable; they go to the quarantine. With more, a run fails and
    commits nothing."""

    part_rows: Annotated[int, Field(ge=1)] = 1_000_000
    """Rows of a part of the output at least: what is done again after a crash at most."""

    image: ImageRef | None = None
    """Image of the batch job, by digest; default: `slipway:images` entry `batch`, or `ray` for that engine."""

    resources: ResourcesConfig = Field(default_factory=ResourcesConfig)
    """What a run's pod gets, or each worker of its Ray cluster."""

    env: dict[ExtraEnvName, str] = Field(default_factory=dict)
    """Extra environment variables of the job, its own tuning among them (`SLIPWAY_MAX_BATCH_ROWS`); those that the
    program sets are refused."""

    deadline_seconds: Annotated[int, Field(ge=60, le=604_800)] = 21_600
    """Time after which a run is ended, its retries included."""

    retries: Annotated[int, Field(ge=0, le=10)] = 3
    """Pods that follow one that failed for a reason that may pass; each goes on from the last finished part."""

    history: HistoryConfig = Field(default_factory=HistoryConfig)
    """Ended runs that stay to be looked at."""

    @field_validator("passthrough")
    @classmethod
    def _without_commas(cls, names: list[str] | None) -> list[str] | None:
        for name in names or ():
            if not name.strip() or "," in name:
                raise broken_rule("names of columns without commas", f"rename {name!r} in the input, or drop it")
        return names

    @field_validator("env")
    @classmethod
    def _not_the_stores(cls, env: dict[str, str]) -> dict[str, str]:
        for name in env:
            if name == Env.S3_ENDPOINT_URL or name.startswith("AWS_"):
                raise broken_rule(f"{name} is the platform's", "drop it: a job has the credentials of its buckets")
        return env

    @property
    def cluster(self) -> RayConfig | None:
        """The Ray cluster; None where one pod scores."""
        return (self.ray or RayConfig()) if self.engine == "ray" else None

    @property
    def pods(self) -> int:
        """How many have `resources` at once."""
        return self.cluster.workers if self.cluster else 1

    @property
    def image_name(self) -> Literal["batch", "ray"]:
        """Entry of `slipway:images` that it runs from unless it names an image of its own."""
        return "ray" if self.cluster else "batch"

    @property
    def references(self) -> dict[str, tuple[str, str]]:
        """By release: the key below the model, and the model reference that stands there."""
        return {RELEASE: ("model", self.model)}
