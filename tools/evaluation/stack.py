"""What a stack's file says about evaluating a version: the bounds that its figures will be held against. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from infra.config.evidence import EvidenceConfig
from infra.config.models import RealtimeModelConfig
from infra.evidence.checklist import ERROR_RATE, Bounds
from infra.k8s.quantities import cores, nbytes
from infra.registry.reference import parse_reference
from services.contract import Env
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from infra.config.models import ReleaseConfig


UNASKED = frozenset({"batch", "stream"})
"""Kinds of models that nobody waits for: the checklist's load and latency are not about them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What a stack demands of a version, and what the release of it sets."""

    bounds: Bounds = field(default_factory=Bounds)
    settings: Mapping[str, str] = field(default_factory=dict)
    max_age_days: int = EvidenceConfig().max_age_days


def gate_of(config: Mapping[str, Any]) -> EvidenceConfig:
    """The stack's `slipway:evidence`."""
    try:
        return EvidenceConfig.model_validate(config.get("slipway:evidence") or {})
    except ValidationError as error:
        raise _wrong("slipway:evidence", error) from error


def models_of(config: Mapping[str, Any]) -> dict[str, RealtimeModelConfig]:
    """The stack's models that answer requests, by name."""
    found = {}
    for name, raw in (config.get("slipway:models") or {}).items():
        if raw.get("kind") in UNASKED:
            continue
        try:
            found[name] = RealtimeModelConfig.model_validate(raw)
        except ValidationError as error:
            raise _wrong(f"slipway:models.{name}", error) from error
    return found


def demands(config: Mapping[str, Any], name: str, version: str, aliases: tuple[str, ...] = ()) -> Demands:
    """What a stack demands of a version of a registered model: that of the release that names it.

    Of a version that no release names yet, what it demands of the model's other releases.
    """
    gate = gate_of(config)
    found = sorted(_naming(config, name), key=lambda each: _names(each[1], version, aliases), reverse=True)
    if not found:
        return Demands(bounds=Bounds(minimum=_minimum(gate)), max_age_days=gate.max_age_days)
    model, release = found[0]
    return Demands(
        bounds=bounds(model, release, gate),
        settings={
            Env.TORCH_THREADS: str(max(1, math.floor(cores(release.resources.cpu_limit)))),
            **release.env,
        },
        max_age_days=gate.max_age_days,
    )


def bounds(model: RealtimeModelConfig, release: ReleaseConfig, gate: EvidenceConfig) -> Bounds:
    """What the figures of a release are held against."""
    return Bounds(
        p99_ms=model.slo.p99_ms,
        error_rate=ERROR_RATE if model.slo.error_rate is None else model.slo.error_rate,
        memory_bytes=nbytes(release.resources.memory),
        minimum=_minimum(gate),
    )


def _minimum(gate: EvidenceConfig) -> dict[str, float]:
    return {str(metric): least for metric, least in gate.minimum.items()}


def _naming(config: Mapping[str, Any], name: str) -> Iterator[tuple[RealtimeModelConfig, ReleaseConfig]]:
    for model in models_of(config).values():
        for release in model.releases.values():
            if parse_reference(release.model).name == name:
                yield model, release


def _names(release: ReleaseConfig, version: str, aliases: tuple[str, ...]) -> bool:
    reference = parse_reference(release.model)
    return reference.version == version or reference.alias in aliases


def _wrong(key: str, error: ValidationError) -> StepError:
    first = error.errors()[0]
    where = ".".join([key, *map(str, first["loc"])])
    return StepError(f"{where}: {first['msg']} → as stacks/schema.json describes it → `pulumi preview` says more")
