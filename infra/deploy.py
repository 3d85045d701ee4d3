"""The one arrow: configuration → platform → add-ons → models → the stack's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from infra import names
from infra.addons.install import install
from infra.config.models import ModelConfig
from infra.platforms.provision import gateway_url, provision
from infra.registry.resolve import Resolved, resolve
from infra.serving.realtime.model import RealtimeModel, RealtimeModelArgs

if TYPE_CHECKING:
    from infra.config.stack import StackConfig

Resolver: TypeAlias = Callable[[Mapping[str, ModelConfig], str], Resolved]
"""Resolves the models' references in the registry at an address."""


def deploy(config: StackConfig, resolver: Resolver = resolve) -> dict[str, Any]:
    """Declares everything and returns the stack's outputs by name.

    References are resolved first: a model that does not exist stops the update before it starts.
    """
    registry = config.registry.url or f"{gateway_url(config)}{names.MLFLOW_PATH}"
    resolved = resolver(config.models, registry)
    platform = provision(config)
    addons = install(config, platform)
    image = config.images.get("inference")
    endpoints = {}
    for name, model in config.models.items():
        args = RealtimeModelArgs(
            config=model,
            resolved=resolved[name],
            image=image,
            namespaces=platform.namespaces,
            addons=addons,
            gate=config.evidence,
            production=config.production,
            checklist=config.checklist,
            registry=registry,
        )
        endpoints[name] = RealtimeModel(name, args, platform.within).endpoint
    outputs = {"endpoints": endpoints, "gateway": addons.gateway.url, "mlflow": addons.mlflow.public_url}
    return outputs if addons.monitoring is None else {**outputs, "prometheus": addons.monitoring.public_url}
