"""Models, their releases and the traffic between them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from infra.config.base import ConfigModel, EnvName, ImageRef, Quantity, ReleaseName, broken_rule
from services.contract import Env

FULL_TRAFFIC = 100
"""Weights are percent."""

PROGRAMS_ENV = frozenset(
    {
        Env.MODEL_NAME,
        Env.MODEL_URI,
        Env.MODEL_DIGEST,
        Env.MODEL_VERSION,
        Env.RELEASE,
        Env.CACHE_DIR,
        Env.TORCH_THREADS,
        Env.MLFLOW_TRACKING_URI,
        Env.MLFLOW_DIRECT_DOWNLOAD,
        Env.HTTP_PORT,
        Env.GRPC_PORT,
        Env.HTTP_HOST,
    }
)
"""Variables that the program sets itself or that probes and Services rely on; the contract's others may be tuned."""


def _not_the_programs(variable: str) -> str:
    if variable in PROGRAMS_ENV:
        raise broken_rule("the program sets this variable itself", "use the key that stands for it, or drop it")
    return variable


def _splittable(reference: str) -> str:
    # Checked here and not by the pattern so that the message can say what a reference looks like.
    name, at, alias = reference.removeprefix("models:/").partition("@")
    version = None if at else name.rpartition("/")[2]
    named = bool(name) if at else bool(name.rpartition("/")[0])
    if not reference.startswith("models:/") or not named or not (alias or (version or "").isdigit()):
        raise broken_rule(
            "a registered model with a version or an alias", "write models:/<name>/<version> or models:/<name>@<alias>"
        )
    return reference


ModelReference = Annotated[str, AfterValidator(_splittable)]
"""`models:/<name>/<version>` or `models:/<name>@<alias>`, resolved in the registry at preview."""

ExtraEnvName = Annotated[EnvName, AfterValidator(_not_the_programs)]
"""A variable of the model's own."""


class ResourcesConfig(ConfigModel):
    """What one replica gets."""

    cpu: Quantity = "250m"
    """Cores that are reserved for it."""

    cpu_limit: Quantity = "2"
    """Cores it may use at most; torch gets as many threads, at least one."""

    memory: Quantity = "1Gi"
    """Memory, reserved and limited alike: a replica never dies of its neighbours' appetite."""


class ReleaseConfig(ConfigModel):
    """One immutable release: what answers when traffic reaches it."""

    model: ModelReference
    """The registered model, by version or by alias."""

    image: ImageRef | None = None
    """Image of the inference service, by digest; default: `slipway:images` entry `inference`."""

    resources: ResourcesConfig = Field(default_factory=ResourcesConfig)
    """What one replica of this release gets."""

    env: dict[ExtraEnvName, str] = Field(default_factory=dict)
    """Extra environment variables of the service, its own tuning among them (`SLIPWAY_MAX_BATCH_ROWS`);
    those that the program sets are refused."""


class ScalingConfig(ConfigModel):
    """How many replicas each release has."""

    min: Annotated[int, Field(ge=1, le=100)] = 1
    """Replicas that always run."""


class RealtimeModelConfig(ConfigModel):
    """A model that answers requests."""

    kind: Literal["realtime"]
    """The model's kind."""

    runtime: Literal["deployment"] = "deployment"
    """What runs the releases."""

    releases: Annotated[dict[ReleaseName, ReleaseConfig], Field(min_length=1)]
    """Releases by name; each becomes its own workload."""

    traffic: dict[ReleaseName, Annotated[int, Field(ge=0, le=FULL_TRAFFIC)]]
    """Percent of the requests by release; sums to 100. A release that is not named gets none."""

    scaling: ScalingConfig = Field(default_factory=ScalingConfig)
    """Replicas of each release."""

    startup_seconds: Annotated[int, Field(ge=10, le=3600)] = 120
    """Time that a replica may take to fetch, verify and load its model, in seconds."""

    @field_validator("traffic")
    @classmethod
    def _reaches_only_releases(cls, traffic: dict[str, int], info: ValidationInfo) -> dict[str, int]:
        if "releases" in info.data:  # absent when the releases themselves are wrong: that is said already
            problem = traffic_problem(traffic, frozenset(info.data["releases"]))
            if problem:
                raise broken_rule(*problem)
        return traffic


ModelConfig: TypeAlias = RealtimeModelConfig
"""Union of the model kinds by `kind`; `batch` and `stream` join it as platforms do in `PlatformConfig`."""


def traffic_problem(traffic: dict[str, int], releases: frozenset[str]) -> tuple[str, str] | None:
    """Rule and remedy that a traffic map breaks, or None. The first in order of how much it explains."""
    known = ", ".join(sorted(releases))
    unknown = sorted(set(traffic) - releases)
    if unknown:
        return f"only releases of the model (not {', '.join(unknown)})", f"one of: {known}"
    total = sum(traffic.values())
    if total != FULL_TRAFFIC:
        return "sums to 100", f"change the weights of {known} by {FULL_TRAFFIC - total:+d} in all"
    return None
