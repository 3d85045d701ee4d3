"""Combinations of a batch model's keys that would not do what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.config.base import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.config.batch import BatchModelConfig


def batch_refusals(model: BatchModelConfig) -> Iterator[Refused]:
    """What `infra.config.combinations` says of a batch model."""
    if model.engine == "ray":
        yield Refused(
            "engine", "ray", "a stack has no operator for Ray clusters yet",
            "set it to local; `slipway batch run --engine ray` scores on a Ray cluster of this machine",
        )  # fmt: skip
    if model.day == "yesterday" and "{date}" not in model.input + model.output:
        yield Refused("day", "yesterday", "is what {date} stands for", "write {date} in input and output, or drop it")
    if model.input.startswith(f"{model.output}/") or model.input == model.output:
        yield Refused("output", model.output, "lies beside the input, not around it", "choose another place")
