"""Combinations of a batch model's keys that would not do what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.config.base import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.config.addons import AddonsConfig
    from infra.config.batch import BatchModelConfig


LONGEST_RAY_NAME = 38
"""KubeRay takes names of RayJobs of 47 characters; those of a schedule's Jobs are the model's and nine more."""


def batch_refusals(name: str, model: BatchModelConfig, addons: AddonsConfig) -> Iterator[Refused]:
    """What `infra.config.combinations` says of a batch model."""
    if model.engine == "ray" and not addons.kuberay.enabled:
        yield Refused("engine", "ray", "needs KubeRay in the cluster", "set addons.kuberay.enabled, or engine local")
    if model.engine == "ray" and len(name) > LONGEST_RAY_NAME:
        rule = (
            f"the name of a model with this engine has at most {LONGEST_RAY_NAME} characters, and this has {len(name)}"
        )
        yield Refused("engine", "ray", rule, "shorten the model's name")
    if model.engine != "ray" and model.ray is not None:
        yield Refused("ray", "set", f"is for engine ray, and this one is {model.engine}", "drop it, or set engine")
    if model.day == "yesterday" and "{date}" not in model.input + model.output:
        yield Refused("day", "yesterday", "is what {date} stands for", "write {date} in input and output, or drop it")
    if model.input.startswith(f"{model.output}/") or model.input == model.output:
        yield Refused("output", model.output, "lies beside the input, not around it", "choose another place")
