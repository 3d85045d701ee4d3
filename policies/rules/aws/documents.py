"""Policies of IAM, as far as rules read them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement; what may be one value or several is always several."""

    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    principal: Any
    conditional: bool


def statements(document: str | None) -> Iterator[Statement]:
    """Statements of a policy's JSON. None of one that is not known before the update, which is then judged itself."""
    try:
        found = json.loads(document or "{}")
    except ValueError:
        return
    for each in _several(found.get("Statement")):
        # `NotAction` and `NotResource` allow all but what they name.
        yield Statement(
            allows=each.get("Effect") == "Allow",
            actions=tuple(_several(each.get("Action", "*"))),
            resources=tuple(_several(each.get("Resource", "*"))),
            principal=each.get("Principal"),
            conditional="Condition" in each,
        )


def anyone(principal: Any) -> bool:
    """Whether a statement is about everybody."""
    return principal == "*" or (isinstance(principal, dict) and "*" in _several(principal.get("AWS")))


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
