"""What a rule is: a pure function of one resource, and what people are told about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Properties: TypeAlias = Mapping[str, Any]
"""A resource's inputs as the engine has them."""

Check: TypeAlias = Callable[[str, Properties], list[str]]
"""Violations of a resource of a type, each naming the part that is wrong; none for a resource it does not judge."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of the pack."""

    name: str
    """Its identifier in the engine's output."""
    description: str
    """What it demands and why, in a sentence."""
    remedy: str
    """What to do about a violation."""
    check: Check
    level: Literal["mandatory", "advisory"] = "mandatory"

    def violations(self, resource_type: str, properties: Properties) -> list[str]:
        """Messages for people: what is wrong → what to do."""
        return [f"{wrong} → {self.remedy}" for wrong in self.check(resource_type, properties)]
