"""A platform on AWS that another stack has deployed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pulumi

from infra.config.base import PROJECT, decoded
from infra.config.problems import shown
from infra.errors import ConfigError
from infra.platforms.aws.facts import OFFERS, Facts, aws_provider, kubernetes_provider, platform_outputs

if TYPE_CHECKING:
    from infra.config.platform import ReferencePlatformConfig
    from infra.outputs import PlatformOutputs

OUTPUT = "platform"
"""Of the other stack: its facts."""


def referenced(config: ReferencePlatformConfig, user: str | None = None) -> PlatformOutputs:
    """What every platform provides, made from what the other stack exports. `user` is who needs it, where several in a
    stack do so apart from each other: each has providers of its own.
    """
    prefix = f"{user}-" if user else ""
    stack = pulumi.StackReference(f"{prefix}{config.stack}", config.stack)
    exported = stack.require_output(OUTPUT)
    # By way of the check: nothing uses a fact before the configuration was held to them.
    checked = exported.apply(lambda facts: agreeing(config, facts))
    facts = Facts.read(checked)
    providers = (
        aws_provider(facts.account, facts.region, facts.tags, f"{prefix}aws"),
        kubernetes_provider(facts.kubeconfig, name=f"{prefix}eks"),
    )
    return platform_outputs(facts, config, providers)


def agreeing(config: ReferencePlatformConfig, facts: dict[str, Any]) -> dict[str, Any]:
    """The facts, where the configuration says the same; ConfigError where it does not."""
    said = {key: getattr(config, key) for key in OFFERS}
    offers = decoded(json.dumps(facts["offers"]))
    problems = [
        f"{PROJECT}:platform.{key}: {shown(value)} → {config.stack} has {shown(offers[key])} → write that"
        for key, value in said.items()
        if value != offers[key]
    ]
    if problems:
        raise ConfigError(problems)
    return facts
