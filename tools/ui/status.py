"""What the page shows, as plain data, gathered from the file, Pulumi's state, the cluster and Prometheus."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tools import environment
from tools.checklist import checklist
from tools.evaluation.stack import UNASKED
from tools.rollout import journal
from tools.rollout.stack_file import MODELS
from tools.rollout.stage import Target
from tools.rollout.telemetry import Telemetry
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.evidence.checklist import Verdict
    from tools.environment import Environment
    from tools.rollout.verdict import Sample

WINDOW_SECONDS = 60.0
"""What figures of releases are over."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """One release of a model."""

    name: str
    reference: str
    weight: int
    """Percent, as the cluster has it."""
    shadow: bool
    requests_per_second: float | None
    """None where it was not measured, as the figures below."""
    error_ratio: float | None
    p99_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model of the stack."""

    name: str
    endpoint: str
    runtime: str
    traffic: dict[str, dict[str, int] | None]
    """Weights by where they stand: `file`, `state`, `cluster`."""
    rollout: str
    """The rollout that is under way; empty without."""
    releases: list[Release]
    before: list[Verdict]
    """The pre-deployment checklist."""
    after: list[Verdict]
    """The post-deployment checklist."""
    problem: str = ""
    """Why something of this could not be seen."""

    @property
    def agree(self) -> bool:
        """Whether file, state and cluster say the same."""
        return self.traffic["file"] == self.traffic["state"] == self.traffic["cluster"]

    @property
    def healthy(self) -> bool:
        """Whether every line of the post-deployment checklist holds."""
        return bool(self.after) and all(verdict.passed for verdict in self.after)


@dataclass(frozen=True, kw_only=True)
class Status:
    """All of it, at one moment."""

    stack: str
    at: str
    """UTC."""
    models: list[Model]
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def gather(found: Environment, stack: str) -> Status:
    """Look at everything; what cannot be seen is told instead of raised."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        config = environment.stack_config(stack)
        outputs = found.outputs(stack)
    except StepError as error:
        return Status(stack=stack, at=at, models=[], problem=str(error))
    answering = [name for name, settings in (config.get(MODELS) or {}).items() if settings.get("kind") not in UNASKED]
    models = [_model(found, stack, config, outputs, name) for name in sorted(answering)]
    return Status(stack=stack, at=at, models=models)


def _model(found: Environment, stack: str, config: Mapping[str, Any], outputs: Mapping[str, Any], name: str) -> Model:
    target = Target(found=found, stack=stack, model=name, file=environment.STACKS / f"Pulumi.{stack}.yaml")
    settings = config[MODELS][name]
    problem = ""
    before: list[Verdict] = []
    after: list[Verdict] = []
    traffic: dict[str, dict[str, int] | None] = {"file": target.in_file(), "state": None, "cluster": None}
    try:
        traffic |= {"state": target.in_state(), "cluster": target.in_cluster()}
        seen = checklist(found, config, environment.registry_url(stack), stack, name)
        before, after = seen.before, seen.after
    except StepError as error:
        problem = str(error)
    unfinished = journal.read(journal.path_of(found.state_directory / "rollouts", stack, name))
    telemetry = Telemetry(outputs["prometheus"], name) if outputs.get("prometheus") else None
    weights = traffic["cluster"] or {}
    return Model(
        name=name,
        endpoint=outputs["endpoints"].get(name, ""),
        runtime=settings.get("runtime", "deployment"),
        traffic=traffic,
        rollout="" if unfinished is None else unfinished.told,
        releases=[
            _release(release, of, weights.get(release, 0), settings.get("shadow") == release, telemetry)
            for release, of in sorted(settings["releases"].items())
        ],
        before=before,
        after=after,
        problem=problem,
    )


def _release(name: str, settings: Mapping[str, Any], weight: int, shadow: bool, telemetry: Telemetry | None) -> Release:
    sample: Sample | None = None if telemetry is None else telemetry.sample(name, WINDOW_SECONDS)
    requests = None if sample is None else sample.requests
    return Release(
        name=name,
        reference=settings["model"],
        weight=weight,
        shadow=shadow,
        requests_per_second=None if requests is None else requests / WINDOW_SECONDS,
        error_ratio=sample.errors / requests if sample and requests and sample.errors is not None else None,
        p99_seconds=sample.latency.quantile(0.99) if sample and sample.latency else None,
    )
