"""What `evidence.json` is: the figures of one evaluation of one artifact.

Everyone who reads it reads a document that somebody else may have written. So nothing here trusts its shape: a figure
that is absent, or is no number, is None, and what None is held against fails.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

Document: TypeAlias = Mapping[str, Any]
"""`evidence.json` as JSON has it."""

SCHEMA: Final = "slipway-evidence/1"
"""Value of the document's key `schema`."""

Rising: TypeAlias = Literal["rocAuc", "accuracy", "f1", "f1Macro", "r2"]
"""Holdout metrics of which more is better."""

Falling: TypeAlias = Literal["logLoss", "mae", "rmse"]
"""Holdout metrics of which less is better."""

RISING: Final[frozenset[str]] = frozenset({"rocAuc", "accuracy", "f1", "f1Macro", "r2"})
FALLING: Final[frozenset[str]] = frozenset({"logLoss", "mae", "rmse"})

P99_RATIO: Final = "p99Ratio"
"""Among margins: how many times the live release's p99 the candidate's may be."""


def figures(document: Document, item: str) -> Mapping[str, Any]:
    """What was measured for an item; empty where the document has no such item."""
    items = document.get("items")
    found = items.get(item) if isinstance(items, Mapping) else None
    measured = found.get("figures") if isinstance(found, Mapping) else None
    return measured if isinstance(measured, Mapping) else {}


def number(measured: Mapping[str, Any], name: str) -> float | None:
    """A figure that is a finite number, else None."""
    value = measured.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def text(mapping: Mapping[str, Any], name: str) -> str:
    """A value that is text, else nothing."""
    value = mapping.get(name)
    return value if isinstance(value, str) else ""


def data(document: Document) -> Mapping[str, Any]:
    """The holdout that the figures are of: `source`, `sha256`, `rows`, `target`."""
    found = document.get("data")
    return found if isinstance(found, Mapping) else {}
