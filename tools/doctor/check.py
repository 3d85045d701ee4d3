"""What a check says. Every one speaks: what could not be looked at is told as such, with what would show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["good", "bad", "unknown"]

MARKS = {"good": "✓", "bad": "✗", "unknown": "?"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    state: State
    subject: str
    value: str
    """What is there."""
    rule: str = ""
    """What should be, where that is not so."""
    remedy: str = ""

    def __str__(self) -> str:
        said = " → ".join(each for each in (self.value, self.rule, self.remedy) if each)
        return f"{MARKS[self.state]} {self.subject}: {said}"


def good(subject: str, value: str) -> Finding:
    """As it should be."""
    return Finding("good", subject, value)


def bad(subject: str, value: str, rule: str, remedy: str) -> Finding:
    """Not as it should be."""
    return Finding("bad", subject, value, rule, remedy)


def unknown(subject: str, why: str, remedy: str) -> Finding:
    """Could not be looked at."""
    return Finding("unknown", subject, why, "not checked", remedy)
