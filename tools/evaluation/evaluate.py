"""Evaluates the very artifact of a version, served as a release would serve it, and makes its evidence.

1. the artifact is downloaded, its digest compared with the registered one
2. this repository's service starts on it, a process of its own on loopback
3. holdout and golden rows go through its HTTP
4. open loop: latency at a stated rate; closed loop: throughput and errors
5. its peak memory and its metrics are read, and it ends
6. the document is complete: it is recorded, signed (`tools.evaluation.record`)

What ends it before 6 leaves the version as it was.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from infra.evidence.checklist import Bounds, judge
from infra.evidence.document import SCHEMA
from services.inference.core.schema import Task
from tools.evaluation import holdout, load, metrics, questions
from tools.evaluation.service import Served, serving
from tools.promotion import standing
from tools.registry import list_versions
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.evidence.checklist import Verdict
    from tools.evaluation.holdout import Holdout
    from tools.evaluation.service import Service
    from tools.registry import RegisteredVersion
    from tools.steps import Steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to evaluate."""

    bounds: Bounds = field(default_factory=Bounds)
    data: Path | None = None
    """None is the holdout that the artifact brings."""
    target: str | None = None
    task: Task | None = None
    """None is what the artifact says."""
    rate: float = 50.0
    """Requests a second of the open loop."""
    latency_seconds: float = 10.0
    connections: int = 8
    load_seconds: float = 5.0
    alias: str = "champion"
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that the release sets of its own."""


QUICK = Plan(latency_seconds=2.0, connections=4, load_seconds=1.0)
"""A plan that takes seconds: for an example's evidence, whose p99 is of a hundred requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What an evaluation has found."""

    version: RegisteredVersion
    document: dict[str, Any]
    verdicts: list[Verdict]

    @property
    def passed(self) -> bool:
        """Whether every item holds against the bounds of the plan."""
        return all(verdict.passed for verdict in self.verdicts)


def evaluate(tracking_uri: str, version: RegisteredVersion, plan: Plan, steps: Steps) -> Evidence:
    """Evaluate a version. `StepError` where it cannot be done; an item that fails is a finding and no error."""
    with tempfile.TemporaryDirectory(prefix="slipway-evaluation-") as scratch:
        cache = Path(scratch)
        with steps.step(f"{version.uri}: download, verify"):
            artifact, digest = _fetched(tracking_uri, version, cache)  # 1
            data = holdout.given(plan.data, plan.target) if plan.data else holdout.own(artifact)
            task, classes = _task(artifact, plan.task)
        served = Served(
            name=version.name,
            uri=version.uri,
            version=version.version,
            digest=digest,
            tracking_uri=tracking_uri,
            cache=cache,
            settings=plan.settings,
        )
        with serving(served) as service:  # 2
            with steps.step(f"holdout: {len(data.labels)} rows of {data.source}"):
                answers = questions.answers(service.url, version.name, data.columns, len(data.labels))  # 3
                golden = questions.golden_difference(service.url, artifact)
            items = {
                "holdout": {**metrics.measure(task, data.labels, answers, classes), "rows": len(data.labels)},
                **_under_load(service, version.name, data, plan, steps),  # 4
                "memory": {"peakBytes": service.peak_bytes()},  # 5
                "transformer": {**_transformer(artifact), **golden},
                "rollback": _rollback(tracking_uri, version, plan.alias),
                "monitoring": questions.monitored(service.url, version.name),
            }
    return _evidence(version, digest, data, items, plan.bounds)


def _fetched(tracking_uri: str, version: RegisteredVersion, cache: Path) -> tuple[Path, str]:
    """The artifact's directory and digest; where the service looks for it, so that it is downloaded once."""
    from services.inference.core.errors import InferenceError  # noqa: PLC0415
    from services.inference.logs import configure_logs  # noqa: PLC0415
    from services.inference.runtimes.sources.fetch import Origin, fetch  # noqa: PLC0415

    configure_logs("warning")  # the fetch's own lines would stand among the progress
    origin = Origin(uri=version.uri, digest=version.digest or None, tracking_uri=tracking_uri)
    try:
        artifact = fetch(origin, cache)
    except InferenceError as error:
        raise StepError(str(error)) from error
    return artifact.directory, artifact.digest


def _task(artifact: Path, named: Task | None) -> tuple[Task, tuple[str, ...]]:
    """What the model's result means, and the names of its classes."""
    found = sorted(artifact.rglob("config.yaml"))
    config = yaml.safe_load(found[0].read_text()) if found else {}
    task = named or config.get("task")
    if task is None:
        raise StepError(
            "the artifact does not say what its result means → its metrics hang on it → "
            f"name it with --task, one of: {', '.join(Task)}"
        )
    return Task(task), tuple(config.get("classes") or ())


def _under_load(service: Service, model: str, data: Holdout, plan: Plan, steps: Steps) -> dict[str, dict[str, Any]]:
    body = questions.body_of(questions.described(service.url, model), data.columns, [0])
    target = load.Target(port=service.port, path=questions.infer_path(model), body=body)
    with steps.step(f"latency at {plan.rate:g} requests/s, open loop", estimate=plan.latency_seconds):
        latency = load.open_loop(target, plan.rate, plan.latency_seconds)
    with steps.step(f"load of {plan.connections} connections, closed loop", estimate=plan.load_seconds):
        most = load.closed_loop(target, plan.connections, plan.load_seconds)
    return {
        "latency": {
            "p50Ms": latency.percentile(50),
            "p99Ms": latency.percentile(99),
            "ratePerSecond": plan.rate,
            "seconds": plan.latency_seconds,
            "requests": latency.requests,
            "errors": latency.errors,
        },
        "load": {
            "requestsPerSecond": round(len(most.latencies) / plan.load_seconds, 1),
            "p99Ms": most.percentile(99),
            "connections": plan.connections,
            "seconds": plan.load_seconds,
            "requests": most.requests,
            "errors": most.errors,
        },
    }


def _transformer(artifact: Path) -> dict[str, str]:
    """The fitted transformer that the artifact brings. An MLflow model of another flavour has its own inside it."""
    for kind, name in (("declarative", "transformer.json"), ("pickled", "transformer.pkl")):
        for path in sorted(artifact.rglob(name)):
            with path.open("rb") as content:
                return {"kind": kind, "digest": f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"}
    return {"kind": "none"}


def _rollback(tracking_uri: str, version: RegisteredVersion, alias: str) -> dict[str, Any]:
    """Who answers today, and what a rollback would restore."""
    found = standing(tracking_uri, version.name, alias)
    first = len(list_versions(tracking_uri, version.name)) == 1
    if found is None:
        return {"alias": alias, "answers": "", "restores": "", "settled": False, "first": first}
    # A version that is not live yet goes back to the one that is.
    restores = found.previous if found.version == version.version else found.version
    return {
        "alias": alias,
        "answers": found.version,
        "restores": restores or "",
        "settled": found.settled,
        "first": first,
    }


def _evidence(
    version: RegisteredVersion, digest: str, data: Holdout, items: Mapping[str, Mapping[str, Any]], bounds: Bounds
) -> Evidence:
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "model": version.name,
        "version": version.version,
        "digest": digest,
        "data": {"source": data.source, "sha256": data.sha256, "rows": len(data.labels), "target": data.target},
        "evaluatedAt": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memoryBytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        },
        "versions": {
            "slipway": importlib.metadata.version("slipway"),
            "torch": importlib.metadata.version("torch"),
            "python": platform.python_version(),
        },
        "items": {item: {"figures": figures} for item, figures in items.items()},
    }
    verdicts = judge(document, bounds)
    for verdict in verdicts:  # for people; who decides recomputes them
        document["items"][verdict.item] |= {"passed": verdict.passed, "bound": verdict.bound}
    # As it will be read back: what JSON cannot hold is found here.
    return Evidence(version=version, document=json.loads(json.dumps(document, allow_nan=False)), verdicts=verdicts)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
