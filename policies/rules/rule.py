"""What a rule is: pure functions of one resource, and what people are told about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

Properties: TypeAlias = Mapping[str, Any]
"""A resource's inputs as the engine has them."""

Check: TypeAlias = Callable[[str, Properties], list[str]]
"""Violations of a resource of a type, each naming the part that is wrong; none for a resource it does not judge."""

Level: TypeAlias = Literal["mandatory", "advisory"]

ADVICE = "-advice"
"""Ends the name under which the engine reports a rule's advice."""


class Declared(NamedTuple):
    """A resource among the others of its stack."""

    type: str
    name: str
    properties: Properties

    @property
    def kind(self) -> str:
        """The last part of the type."""
        return self.type.rpartition(":")[2]


def given(properties: Properties, key: str) -> bool:
    """Whether something stands there, known or not: to look at it would end a preview's check."""
    return any(each == key for each in properties)


def by_type(judges: Mapping[str, Callable[[Properties], list[str]]]) -> Check:
    """A check that asks each type's own judge."""

    def check(resource_type: str, properties: Properties) -> list[str]:
        judge = judges.get(resource_type)
        return [] if judge is None else judge(properties)

    return check


def _nothing(_: str, __: Properties) -> list[str]:
    return []


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of the pack."""

    name: str
    """Its identifier in the engine's output."""
    description: str
    """What it demands and why, in a sentence."""
    remedy: str
    """What to do about a violation."""
    check: Check = _nothing
    """What blocks."""
    advice: Check = _nothing
    """What is told and blocks nothing: the same demand, where the stack or the resource makes it a wish."""

    @property
    def levels(self) -> dict[Level, Check]:
        """Its checks by the level they are reported at; only those that it has."""
        both: dict[Level, Check] = {"mandatory": self.check, "advisory": self.advice}
        return {level: check for level, check in both.items() if check is not _nothing}

    def violations(self, resource_type: str, properties: Properties, level: Level = "mandatory") -> list[str]:
        """Messages for people: what is wrong → what to do."""
        check = self.levels.get(level, _nothing)
        return [f"{wrong} → {self.remedy}" for wrong in check(resource_type, properties)]


@dataclass(frozen=True, kw_only=True)
class StackRule:
    """One rule about all resources of a stack together."""

    name: str
    description: str
    remedy: str
    check: Callable[[Sequence[Declared]], list[str]]
    level: Level = "mandatory"

    def violations(self, resources: Sequence[Declared]) -> list[str]:
        """Messages for people: what is wrong → what to do."""
        return [f"{wrong} → {self.remedy}" for wrong in self.check(resources)]
