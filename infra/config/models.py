"""Models, their releases and the traffic between them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from infra.config.accelerators import ACCELERATORS, AcceleratorName, Placement, placement
from infra.config.base import ConfigModel, EnvName, HeaderName, ImageRef, Quantity, ReleaseName, broken_rule
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
        Env.COMPARE_URL,
        Env.COMPARE_SHARE,
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

    gpu: Annotated[int, Field(ge=1, le=16)] | None = None
    """GPUs, or parts of one where `gpuShare` says so."""

    accelerator: AcceleratorName | None = None
    """Which GPU it is: the replica runs on nodes that have it, and only there."""

    gpu_share: str | None = None
    """`shared` for a GPU that others use at the same time, or a MIG profile (`1g.10gb`) for a part of its own."""

    @model_validator(mode="after")
    def _a_gpu_is_one_that_there_is(self) -> ResourcesConfig:
        if self.gpu is not None and self.accelerator is None:
            raise broken_rule("a GPU of a kind", f"set accelerator to one of: {', '.join(ACCELERATORS)}")
        if self.gpu is None and (self.accelerator is not None or self.gpu_share is not None):
            raise broken_rule("says which GPU, and asks for none", "set gpu to how many, or drop it")
        _ = self.placement  # raises where the GPU has no such part
        return self

    @property
    def placement(self) -> Placement | None:
        """Where its GPUs are to be had; None without any."""
        if self.gpu is None or self.accelerator is None:
            return None
        return placement(self.accelerator, self.gpu, self.gpu_share)


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


class ScaleUpConfig(ConfigModel):
    """How fast replicas may be added."""

    percent: Annotated[int, Field(ge=1, le=1000)] = 100
    """Percent of the replicas that are there, within `seconds`; 100 doubles them."""

    seconds: Annotated[int, Field(ge=1, le=1800)] = 15
    """Length of that step."""

    wait_seconds: Annotated[int, Field(ge=0, le=3600)] = 0
    """How long the load has to be high first."""


class ScaleDownConfig(ConfigModel):
    """How fast replicas may be taken away."""

    percent: Annotated[int, Field(ge=1, le=100)] = 10
    """Percent of the replicas that are there, within `seconds`, and always one."""

    seconds: Annotated[int, Field(ge=1, le=1800)] = 60
    """Length of that step."""

    wait_seconds: Annotated[int, Field(ge=0, le=3600)] = 300
    """How long the load has to be low first."""


class ScalingConfig(ConfigModel):
    """How many replicas each release has."""

    min: Annotated[int, Field(ge=0, le=1000)] = 1
    """Replicas that always run. 0 only where a request can wait for the first one: KServe's Knative mode."""

    max: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Replicas at most. Without it there are always `min`."""

    cpu: Annotated[int, Field(ge=1, le=100)] | None = None
    """Percent of the reserved cores that a replica shall use in the mean."""

    requests_per_second: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """Requests a second that a replica shall answer in the mean."""

    up: ScaleUpConfig = Field(default_factory=ScaleUpConfig)
    """How fast replicas may be added."""

    down: ScaleDownConfig = Field(default_factory=ScaleDownConfig)
    """How fast replicas may be taken away."""

    @property
    def automatic(self) -> bool:
        """Whether the number of replicas follows the load."""
        return self.max is not None and self.max > self.min


class StickyConfig(ConfigModel):
    """The same caller gets the same release, as long as its share of the traffic does not shrink."""

    header: HeaderName
    """Request header that tells callers apart, `x-user-id` say. A request without it goes by weight alone."""


class MirrorConfig(ConfigModel):
    """What the shadow sees and what is done with its answers."""

    percent: Annotated[float, Field(gt=0, le=100)] = 100
    """Percent of the requests that are copied to the shadow."""

    compare_percent: Annotated[float, Field(ge=0, le=100)] = 10
    """Percent of the copies for which the shadow asks the live release once more, to compare the answers: as much
    more load for it."""


class KserveRuntimeConfig(ConfigModel):
    """What only KServe has."""

    mode: Literal["standard", "knative"] = "standard"
    """`standard` makes Deployments; `knative` needs Knative Serving in the cluster, and scales to zero."""


class SloConfig(ConfigModel):
    """What callers are promised."""

    p99_ms: Annotated[float, Field(gt=0)] | None = None
    """Milliseconds within which 99 of 100 requests are answered."""

    error_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the requests that may fail: 0.01 is one in a hundred."""


class RealtimeModelConfig(ConfigModel):
    """A model that answers requests."""

    kind: Literal["realtime"]
    """The model's kind."""

    runtime: Literal["deployment", "kserve"] = "deployment"
    """What runs the releases; what callers see is the same."""

    kserve: KserveRuntimeConfig | None = None
    """Settings of `runtime: kserve`."""

    releases: Annotated[dict[ReleaseName, ReleaseConfig], Field(min_length=1)]
    """Releases by name; each becomes its own workload."""

    traffic: dict[ReleaseName, Annotated[int, Field(ge=0, le=FULL_TRAFFIC)]]
    """Percent of the requests by release; sums to 100. A release that is not named gets none."""

    shadow: ReleaseName | None = None
    """Release that gets a copy of the traffic; its answers are compared and dropped."""

    mirror: MirrorConfig | None = None
    """How much of the traffic the shadow sees; all of it unless said."""

    sticky: StickyConfig | None = None
    """Whether the same caller gets the same release."""

    scaling: ScalingConfig = Field(default_factory=ScalingConfig)
    """Replicas of each release."""

    slo: SloConfig = Field(default_factory=SloConfig)
    """What callers are promised: alerts and rollouts go by it."""

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

    @property
    def knative(self) -> bool:
        """Whether Knative runs the pods."""
        return self.runtime == "kserve" and self.kserve is not None and self.kserve.mode == "knative"

    @property
    def live(self) -> str:
        """The release with the most traffic."""
        return max(sorted(self.traffic), key=lambda release: self.traffic[release])


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
