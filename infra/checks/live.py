"""Looks at a deployed model: through the gateway as callers do, and in Prometheus."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from infra.checks import lines
from infra.checks.lines import Answered, Golden, Monitored
from infra.errors import RegistryError
from infra.registry.client import connect
from infra.registry.mlflow import MlflowRegistry, NoSuchEntryError
from services.contract import VERSION_HEADER, Metric, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.evidence.checklist import Verdict

ANSWER_SECONDS = 10.0
"""Longest wait for one answer."""

PAUSE_SECONDS = 0.5
"""Between two looks at what does not hold yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What to look at. Plain values, as the component's inputs and the stack's outputs have them."""

    model: str
    endpoint: str
    """Base address of the model at the gateway."""
    releases: Mapping[str, Mapping[str, Any]]
    """The component's input `releases`."""
    shadow: str | None
    registry: str
    """MLflow's address from this machine."""
    prometheus: str | None
    """Prometheus's; None where the platform has none."""


def post_deployment(deployed: Deployed) -> list[Verdict]:
    """Every line that can be seen from outside the cluster."""
    return answers(deployed) + monitoring(deployed)


def answers(deployed: Deployed) -> list[Verdict]:
    """Whether each release answers as in training, through the gateway."""
    with connect(deployed.registry) as connection:
        registry = MlflowRegistry(connection)
        return [_golden(deployed, registry, release, facts) for release, facts in sorted(deployed.releases.items())]


def monitoring(deployed: Deployed) -> list[Verdict]:
    """Whether Prometheus sees each release, has alert rules, and comparisons of the shadow."""
    seen = None if deployed.prometheus is None else monitored(deployed.prometheus, deployed.model)
    return lines.monitoring(sorted(deployed.releases), deployed.shadow, seen)


def until_passed(look: Callable[[], list[Verdict]], timeout_seconds: float) -> list[Verdict]:
    """Look again until everything holds or the time is up: gateways and Prometheus learn of a change after a while."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        verdicts = look()
        if all(verdict.passed for verdict in verdicts) or time.monotonic() >= deadline:
            return verdicts
        time.sleep(PAUSE_SECONDS)


def golden_rows(registry: MlflowRegistry, name: str, version: str) -> Golden | None:
    """The rows that a version brings, with training's answers where it has those."""
    content = registry.file(name, version, "golden.json")
    if content is not None:
        told = json.loads(content)
        rows = told["rows"]
        return Golden(
            rows=[row["features"] for row in rows],
            expected=[_score(row) for row in rows],
            tolerance=float(told["tolerance"]),
        )
    example = registry.file(name, version, "input_example.json")
    if example is None:
        return None
    told = json.loads(example)
    if isinstance(told, dict):
        return Golden(rows=[dict(zip(told["columns"], row, strict=True)) for row in told["data"]], expected=None)
    return Golden(rows=told, expected=None)


def ask(endpoint: str, release: str, wanted: Golden) -> Answered:
    """Send rows to a release, by its header."""
    try:
        response = httpx.post(
            f"{endpoint}{Route.PREDICT}",
            json={"features": list(wanted.rows)},
            headers={VERSION_HEADER: release},
            timeout=ANSWER_SECONDS,
        )
    except httpx.HTTPError as error:
        return Answered(error=f"{endpoint} does not answer ({error or type(error).__name__})")
    if response.is_error:
        return Answered(error=f"{endpoint} answered {response.status_code}: {response.text.strip()[:200]}")
    try:
        told = response.json()
        scores = told["prediction"] if told["probability"] is None else told["probability"]
        return Answered(values=[float(score) for score in scores], version=str(told["model_version"]))
    except (ValueError, KeyError, TypeError) as error:
        return Answered(error=f"{endpoint} answered something else than predictions ({error})")


def monitored(prometheus: str, model: str) -> Monitored:
    """What Prometheus has of a model."""
    try:
        with httpx.Client(base_url=prometheus, timeout=ANSWER_SECONDS) as client:
            requests = _query(client, f'count by (release) ({Metric.REQUESTS}{{model="{model}"}})')
            compared = _query(client, f'sum({Metric.SHADOW_ROWS}{{model="{model}",result=~"match|mismatch"}})')
            groups = _asked(client, "/api/v1/rules", {"type": "alert"})["groups"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        return Monitored(error=f"{prometheus}: {error or type(error).__name__}")
    rules = [rule for group in groups for rule in group["rules"]]
    return Monitored(
        series={found["metric"].get("release", ""): float(found["value"][1]) for found in requests},
        alerts=len(rules),
        unhealthy=[str(rule["name"]) for rule in rules if rule.get("health") == "err"],
        compared=float(compared[0]["value"][1]) if compared else None,
    )


def _golden(deployed: Deployed, registry: MlflowRegistry, release: str, facts: Mapping[str, Any]) -> Verdict:
    version, name = str(facts["version"]), str(facts["uri"]).removeprefix("models:/").rpartition("/")[0]
    try:
        wanted = golden_rows(registry, name, version)
    except (RegistryError, NoSuchEntryError) as error:
        return lines.golden(release, version, Golden(rows=[], expected=None), Answered(error=str(error)))
    answered = Answered() if wanted is None else ask(deployed.endpoint, release, wanted)
    return lines.golden(release, version, wanted, answered)


def _score(row: Mapping[str, Any]) -> float:
    return float(row["prediction"] if row.get("probability") is None else row["probability"])


def _query(client: httpx.Client, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _asked(client, "/api/v1/query", {"query": query})["result"]
    return found


def _asked(client: httpx.Client, path: str, parameters: dict[str, str]) -> dict[str, Any]:
    response = client.get(path, params=parameters)
    response.raise_for_status()
    data: dict[str, Any] = response.json()["data"]
    return data
