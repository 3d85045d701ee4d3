"""What a model's component says of itself, and how strictly each of its releases is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from policies.rules.rule import Check, Properties

REALTIME_MODEL = "slipway:serving:RealtimeModel"
BATCH_MODEL = "slipway:serving:BatchModel"
STREAM_MODEL = "slipway:serving:StreamModel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One release of a model, with all that a rule may look at."""

    name: str
    facts: Properties
    model: Properties

    @property
    def has_traffic(self) -> bool:
        """Whether its model answers requests."""
        return "traffic" in self.model

    @property
    def gate(self) -> Properties:
        """The stack's `slipway:evidence`, and `production`."""
        return self.model.get("gate") or {}

    @property
    def evidence(self) -> Properties:
        """What was found in the registry; empty where nothing was."""
        return self.facts.get("evidence") or {}

    @property
    def document(self) -> Properties:
        """The evidence itself."""
        return self.evidence.get("document") or {}

    @property
    def reached(self) -> bool:
        """Whether requests reach it, by weight or as the shadow; by header alone does not count. A batch model's one
        release scores every row.
        """
        return not self.has_traffic or weight_of(self.model, self.name) > 0 or self.model.get("shadow") == self.name


Find: TypeAlias = Callable[[Release], list[str]]
"""What is wrong with a release."""


def releases(resource_type: str, model: Properties) -> Iterator[Release]:
    """The releases of a model; none of any other resource."""
    if resource_type in {REALTIME_MODEL, BATCH_MODEL, STREAM_MODEL}:
        for name, facts in sorted((model.get("releases") or {}).items()):
            yield Release(name=name, facts=facts or {}, model=model)


def weight_of(model: Properties, release: str) -> float:
    """Percent of the traffic."""
    return float((model.get("traffic") or {}).get(release) or 0)


def live(release: Release) -> Release | None:
    """What a release is compared with.

    A policy sees what is declared, not what is deployed. So the live release is, of those that came before the judged
    one, the one with the largest weight: an older version of the same registered model, or a release of another model
    with more traffic. An edit that moves all traffic at once so meets the release that it moves it from, as long as
    that stays configured; a rollback, whose other releases are newer, meets none. A release that replaces all others
    within one edit has nothing to be compared with.
    """
    before = [
        each
        for each in releases(REALTIME_MODEL, release.model)
        if each.name != release.name
        and (
            _version(each) < _version(release)
            if _name(each) == _name(release)
            else weight_of(each.model, each.name) > weight_of(release.model, release.name)
        )
    ]
    return max(before, key=lambda each: (weight_of(each.model, each.name), _version(each)), default=None)


def _name(release: Release) -> str:
    return str(release.facts.get("uri")).rpartition("/")[0]


def _version(release: Release) -> int:
    version = str(release.facts.get("version"))
    return int(version) if version.isdigit() else 0


def gated(find: Find) -> tuple[Check, Check]:
    """Check and advice of a rule about evidence, as the stack's gate and the release's traffic say."""

    def mandatory(resource_type: str, model: Properties) -> list[str]:
        return [
            line
            for each in releases(resource_type, model)
            if each.gate.get("enforcement") == "mandatory" and each.reached
            for line in told(each, find)
        ]

    def advisory(resource_type: str, model: Properties) -> list[str]:
        return [
            line
            for each in releases(resource_type, model)
            if each.gate.get("enforcement") == "advisory"
            or (each.gate.get("enforcement") == "mandatory" and not each.reached)
            for line in told(each, find)
        ]

    return mandatory, advisory


def told(release: Release, find: Find) -> list[str]:
    """What is wrong with a release, under its key in the stack file."""
    key = f"slipway:models.{release.model.get('model')}"
    if release.has_traffic:
        key += f".releases.{release.name}"
    uri: Any = release.facts.get("uri")
    return [f"{key}: {uri}: {wrong}" for wrong in find(release)]
