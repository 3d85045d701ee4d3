"""Both checklists of a deployed model: what its evidence shows, and what is seen of it now."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from infra.checks import lines
from infra.checks.live import Deployed, post_deployment
from infra.errors import RegistryError
from infra.evidence.checklist import Verdict, judge
from infra.evidence.document import text
from infra.names import LABEL_MODEL, LABEL_RELEASE, MODELS_NAMESPACE
from infra.registry.client import connect
from infra.registry.mlflow import MlflowRegistry
from infra.registry.resolve import resolve_in
from infra.serving.realtime import facts
from policies.rules import evidence
from policies.rules.models import REALTIME_MODEL, Release, live, releases
from tools.evaluation.card import table
from tools.evaluation.stack import gate_of, models_of
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.config.models import RealtimeModelConfig
    from tools.environment import Environment

KUBECTL_SECONDS = 30
"""For one question to the cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checklist:
    """Both lists of one model."""

    model: str
    stack: str
    before: list[Verdict]
    """Pre-deployment, from the evidence."""
    after: list[Verdict]
    """Post-deployment, seen just now."""

    @property
    def passed(self) -> bool:
        """Whether every line holds."""
        return all(verdict.passed for verdict in (*self.before, *self.after))

    def as_json(self) -> str:
        """For programs."""
        lists = {name: [asdict(each) for each in found] for name, found in self._lists()}
        return json.dumps({"model": self.model, "stack": self.stack, "passed": self.passed, **lists}, indent=1)

    def as_markdown(self) -> str:
        """For pull requests and pages."""
        parts = [f"# {self.model} in {self.stack}: {'every line holds' if self.passed else 'NOT every line holds'}"]
        for name, found in self._lists():
            parts += ["", f"## {name}", "", *table(found)]
        return "\n".join(parts)

    def _lists(self) -> list[tuple[str, list[Verdict]]]:
        return [("pre-deployment", self.before), ("post-deployment", self.after)]


def checklist(found: Environment, config: Mapping[str, Any], registry: str, stack: str, model: str) -> Checklist:
    """Look at a model of a stack. `StepError` where the stack has no such model or was never deployed."""
    models = models_of(config)
    if model not in models:
        known = ", ".join(sorted(models)) or "none"
        rule = "a real-time model of its slipway:models"
        raise StepError(f"{model}: not in stack {stack} → {rule} → one of: {known}")
    declared = component(model, models[model], config, registry)
    outputs = found.outputs(stack)
    deployed = Deployed(
        model=model,
        endpoint=outputs["endpoints"].get(model, ""),
        releases=declared["releases"],
        shadow=declared["shadow"],
        registry=registry,
        prometheus=outputs.get("prometheus"),
    )
    least = int(declared["scaling"]["min"])
    return Checklist(
        model=model,
        stack=stack,
        before=pre_deployment(declared),
        after=[
            *(lines.pods(release, pods(found, model, release, least)) for release in sorted(declared["releases"])),
            *post_deployment(deployed),
        ],
    )


def component(model: str, settings: RealtimeModelConfig, config: Mapping[str, Any], registry: str) -> dict[str, Any]:
    """Inputs of the model's component, as the program would declare them now."""
    with connect(registry) as connection:
        try:
            resolved = resolve_in({model: settings}, MlflowRegistry(connection))[model]
        except RegistryError as error:
            raise StepError(str(error)) from error
    production = config.get("slipway:production") is True
    return facts.inputs(model, settings, resolved, gate_of(config), production=production)


def pre_deployment(declared: Mapping[str, Any]) -> list[Verdict]:
    """Verdicts on the evidence of every release, by the very rules that the policy pack blocks by. Pure but for now."""
    return [line for release in releases(REALTIME_MODEL, declared) for line in _evidence_of(release)]


def _evidence_of(release: Release) -> list[Verdict]:
    name = release.name
    wrong = [line for find in evidence.VALIDITY for line in find(release)]
    shown = f"of {text(release.document, 'evaluatedAt')}, signed by {release.evidence.get('signer')}"
    lines_ = [
        Verdict(
            item=f"evidence {name}",
            passed=not wrong,
            shown="; ".join(wrong) or shown,
            bound=f"whole, signed, of this artifact, at most {release.gate.get('maxAgeDays')} days old",
            remedy="" if not wrong else evidence.EVALUATE,
        )
    ]
    if not evidence.trusted(release):
        return lines_
    minimum = {str(metric): float(least) for metric, least in (release.gate.get("minimum") or {}).items()}
    bounds = replace(evidence.bounds(release), minimum=minimum)
    lines_ += [replace(verdict, item=f"{verdict.item} {name}") for verdict in judge(release.document, bounds)]
    return [*lines_, _against_live(release)]


def _against_live(release: Release) -> Verdict:
    other, worse = live(release), evidence.regressed(release)
    known = other is not None and evidence.trusted(other)
    return Verdict(
        item=f"regression {release.name}",
        passed=not worse,
        shown="; ".join(worse) or (f"not worse than {other.name}" if other and known else "nothing to compare with"),
        bound=", ".join(f"{name} {margin:g}" for name, margin in (release.gate.get("regressionMargin") or {}).items()),
        remedy="train a better model, evaluate both on the same data, or widen the margin" if worse else "",
    )


def pods(found: Environment, model: str, release: str, least: int) -> lines.Pods:
    """Replicas of a release as the cluster has them."""
    selector = f"{LABEL_MODEL}={model},{LABEL_RELEASE}={release}"
    kubectl = found.kubectl(MODELS_NAMESPACE)
    try:
        told = kubectl.ask("get", "pods", f"--selector={selector}", "--output=json", seconds=KUBECTL_SECONDS)
    except StepError as error:
        return lines.Pods(ready=0, wanted=0, error=str(error))
    return counted(json.loads(told)["items"], least)


def counted(items: Sequence[Mapping[str, Any]], least: int) -> lines.Pods:
    """Pods that are ready, of those that are wanted; one that is being deleted is neither."""
    staying = [item for item in items if "deletionTimestamp" not in item["metadata"]]
    ready = [item for item in staying if _is_ready(item)]
    return lines.Pods(ready=len(ready), wanted=max(least, len(staying)))


def _is_ready(item: Mapping[str, Any]) -> bool:
    conditions = (item.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
