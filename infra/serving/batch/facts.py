"""What a batch model's component says of itself, which previews show and policies judge. Plain, known data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.config.batch import RELEASE
from infra.k8s.quantities import nbytes

if TYPE_CHECKING:
    from infra.config.batch import BatchModelConfig
    from infra.config.evidence import EvidenceConfig
    from infra.registry.reference import ResolvedModel


def inputs(
    name: str, config: BatchModelConfig, resolved: ResolvedModel, gate: EvidenceConfig, *, production: bool
) -> dict[str, Any]:
    """Inputs of `slipway:serving:BatchModel`: one release, spelt as those of the other kinds."""
    return {
        "model": name,
        "schedule": config.schedule,
        "timezone": config.timezone,
        "suspend": config.suspend,
        "input": config.input,
        "output": config.output,
        "engine": config.engine,
        "pods": config.pods,
        "releases": {
            RELEASE: {
                **resolved.plain(),
                "memoryBytes": nbytes(config.resources.memory),
                "gpus": config.resources.whole_gpus,
            }
        },
        "gate": {**gate.model_dump(mode="json", by_alias=True), "production": production},
    }
