"""What `pulumi preview --json` says, as data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SAME = frozenset({"same", "read", "refresh"})
REPLACING = frozenset({"replace", "create-replacement", "delete-replaced"})


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
    """(severity, message) of what the program, the engine and the policies had to say."""

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
        document = json.loads(text[text.index("{") :])  # the engine may print warnings first
        steps = tuple(_step(each) for each in document.get("steps", []))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StepError(
            f"not a preview: {error or type(error).__name__} → what `pulumi preview --json` prints → run that"
        ) from error
    stack = next((step.urn.split("::")[0].removeprefix("urn:pulumi:") for step in steps), "")
    told = [
        (str(each.get("severity", "info")), str(each.get("message", "")).strip())
        for each in document.get("diagnostics") or []
    ]
    return Plan(stack, steps, tuple(each for each in told if each[1] and each[0] in {"error", "warning"}))


def _step(described: Mapping[str, Any]) -> Step:
    old, new = described.get("oldState"), described.get("newState")
    return Step(
        op=str(described["op"]),
        urn=str(described["urn"]),
        before=None if old is None else old.get("inputs") or {},
        after=None if new is None else new.get("inputs") or {},
        changed=tuple(sorted(described.get("detailedDiff") or described.get("diffReasons") or ())),
    )
