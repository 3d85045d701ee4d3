"""Models, their releases and the traffic between them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, ValidationInfo, field_validator

from infra.config.base import ConfigModel, HeaderName, ImageRef, ReleaseName, broken_rule
from infra.config.batch import BatchModelConfig
from infra.config.prediction_log import PredictionLogConfig  # noqa: TC001 (pydantic reads it at run time)
from infra.config.streaming import StreamModelConfig
from infra.config.workload import ExtraEnvName, ModelReference, ResourcesConfig

FULL_TRAFFIC = 100
"""Weights are percent."""


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

    p99_ms: Annotated[float, Field(gt=0, le=60_000)] | None = None
    """Milliseconds within which 99 of 100 requests are answered; after a minute the gateway waits no longer."""

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

    prediction_log: PredictionLogConfig | None = None
    """What is written down of its requests; nothing unless said."""

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
    def references(self) -> dict[str, tuple[str, str]]:
        """By release: the key below the model, and the model reference that stands there."""
        return {name: (f"releases.{name}.model", release.model) for name, release in self.releases.items()}

    @property
    def knative(self) -> bool:
        """Whether Knative runs the pods."""
        return self.runtime == "kserve" and self.kserve is not None and self.kserve.mode == "knative"

    @property
    def live(self) -> str:
        """The release with the most traffic."""
        return max(sorted(self.traffic), key=lambda release: self.traffic[release])


ModelConfig: TypeAlias = Annotated[
    RealtimeModelConfig | BatchModelConfig | StreamModelConfig, Field(discriminator="kind")
]
"""Union of the model kinds by `kind`."""


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
