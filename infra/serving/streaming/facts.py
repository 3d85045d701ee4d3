"""What a stream model's component says of itself, which previews show and policies judge. Plain, known data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.k8s.quantities import nbytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.config.evidence import EvidenceConfig
    from infra.config.streaming import StreamModelConfig
    from infra.registry.reference import ResolvedModel


def inputs(
    name: str,
    config: StreamModelConfig,
    resolved: Mapping[str, ResolvedModel],
    gate: EvidenceConfig,
    *,
    production: bool,
) -> dict[str, Any]:
    """Inputs of `slipway:serving:StreamModel`: its releases are spelt as those of the other kinds."""
    return {
        "model": name,
        "input": config.input,
        "output": config.output,
        "deadLetter": config.dead_letter,
        "guarantee": config.guarantee,
        "group": config.group or name,
        "scaling": {"min": config.scaling.min, "max": config.scaling.max or config.scaling.min},
        "releases": {
            release: {
                **of.plain(),
                "memoryBytes": nbytes(config.resources.memory),
                "gpus": config.resources.whole_gpus,
            }
            for release, of in resolved.items()
        },
        "gate": {**gate.model_dump(mode="json", by_alias=True), "production": production},
    }
