"""What `pulumi preview --json` says, as data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from infra.config.platform import PlatformConfig
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SAME = frozenset({"same", "read", "refresh"})
REPLACING = frozenset({"replace", "create-replacement", "delete-replaced"})

ECHOES = ("an unhandled error occurred: Program exited", "preview failed")
"""Beginnings of what the engine adds to every failure, whose cause another line tells."""


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one resource."""

    op: str
    urn: str
    before: Mapping[str, Any] | None
    """Its inputs now, None where it is new."""
    after: Mapping[str, Any] | None
    """Its inputs then, None where it goes."""
    changed: tuple[str, ...] = ()
    """Inputs that differ, by their paths."""

    @property
    def type(self) -> str:
        """Type of the resource, without its parents'."""
        return self.urn.split("::")[2].rpartition("$")[2]

    @property
    def name(self) -> str:
        """Name of the resource in the program."""
        return self.urn.rpartition("::")[2]

    @property
    def kind(self) -> str:
        """The last part of the type: `Deployment`, `Cluster`."""
        return self.type.rpartition(":")[2]


@dataclass(frozen=True, slots=True)
class Plan:
    """A preview."""

    stack: str
    steps: tuple[Step, ...]
    complaints: tuple[tuple[str, str], ...]
    """(severity, message) of what the program and the engine had to say."""
    failed: bool
    gpus: Mapping[str, int]
    """GPUs of each kind that the platform has at most."""

    def of(self, type_: str) -> Iterator[Step]:
        """Steps of a type, those that change nothing too; of a replacement the one that says what comes."""
        return (
            step
            for step in self.steps
            if step.type == type_ and step.op not in {"delete-replaced", "create-replacement"}
        )

    @property
    def changing(self) -> tuple[Step, ...]:
        """Steps that change something."""
        return tuple(step for step in self.steps if step.op not in SAME)


def read(text: str) -> Plan:
    """A preview from its JSON. Raises `StepError` where it is none."""
    try:
        document = json.loads(text[max(text.find("{"), 0) :])  # the engine may print warnings first
        # In the order of their names: the engine's own differs from run to run.
        steps = tuple(sorted(map(_step, document.get("steps", [])), key=lambda step: (step.urn, step.op)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StepError(
            f"not a preview: {error or type(error).__name__} → what `pulumi preview --json` prints → run that"
        ) from error
    counted = (document.get("changeSummary") or {}).get("same", 0)
    if counted > sum(step.op == "same" for step in steps):
        raise StepError(
            f"the preview leaves out {counted} resources that stay → what they cost is part of the comment → "
            "`pulumi preview --json --show-sames`"
        )
    if not steps and not document.get("diagnostics"):
        raise StepError("not a preview: neither steps nor diagnostics → what `pulumi preview --json` prints → run that")
    stack = next((step.urn.split("::")[0].removeprefix("urn:pulumi:") for step in steps), "")
    told = [
        (str(each.get("severity", "info")), str(each.get("message", "")).strip().removeprefix("error: "))
        for each in document.get("diagnostics") or []
    ]
    return Plan(
        stack,
        steps,
        tuple(each for each in told if each[0] in {"error", "warning"} and not each[1].startswith(ECHOES)),
        failed=any(severity == "error" for severity, _ in told),
        gpus=_gpus(document.get("config") or {}),
    )


def _gpus(config: Mapping[str, str]) -> dict[str, int]:
    """GPUs of the platform in a stack's configuration; none where the preview failed of that very key."""
    try:
        return dict(TypeAdapter(PlatformConfig).validate_json(config.get("slipway:platform", "")).gpus)
    except ValidationError:
        return {}


def _step(described: Mapping[str, Any]) -> Step:
    old, new = described.get("oldState"), described.get("newState")
    return Step(
        op=str(described["op"]),
        urn=str(described["urn"]),
        before=None if old is None else old.get("inputs") or {},
        after=None if new is None else new.get("inputs") or {},
        changed=tuple(sorted(described.get("detailedDiff") or described.get("diffReasons") or ())),
    )
