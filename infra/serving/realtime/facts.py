"""What a model's component says of itself: its inputs, which previews show and policies judge. Plain, known data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.k8s.quantities import nbytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.config.evidence import EvidenceConfig
    from infra.config.models import RealtimeModelConfig, ReleaseConfig
    from infra.registry.reference import ResolvedModel


def inputs(
    name: str,
    config: RealtimeModelConfig,
    resolved: Mapping[str, ResolvedModel],
    gate: EvidenceConfig,
    *,
    production: bool,
) -> dict[str, Any]:
    """Inputs of `slipway:serving:RealtimeModel`. No time of now is among them: each preview would show a change."""
    return {
        "model": name,
        "runtime": config.runtime,
        "traffic": dict(config.traffic),
        "shadow": config.shadow,
        "scaling": {"min": config.scaling.min, "max": config.scaling.max or config.scaling.min},
        "slo": config.slo.model_dump(by_alias=True),
        "releases": {release: _release(settings, resolved[release]) for release, settings in config.releases.items()},
        "gate": {**gate.model_dump(mode="json", by_alias=True), "production": production},
    }


def _release(config: ReleaseConfig, resolved: ResolvedModel) -> dict[str, Any]:
    return {
        **resolved.plain(),
        "memoryBytes": nbytes(config.resources.memory),
        "gpus": config.resources.whole_gpus,
    }
