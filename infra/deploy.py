"""The one arrow: configuration → platform → add-ons → models → the stack's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from infra import names
from infra.addons.install import install
from infra.config.batch import RELEASE
from infra.config.models import ModelConfig
from infra.platforms.provision import gateway_url, provision
from infra.registry.resolve import Resolved, resolve
from infra.serving.batch.model import BatchModel, BatchModelArgs
from infra.serving.realtime.model import RealtimeModel, RealtimeModelArgs
from infra.serving.streaming.model import StreamModel, StreamModelArgs
from infra.serving.streaming.topics import Topics, TopicsArgs

if TYPE_CHECKING:
    from infra.config.stack import StackConfig
    from infra.outputs import PlatformOutputs

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
    topics = declare_topics(config, platform)
    for name, model in config.models.items():
        if model.kind == "stream":
            if platform.kafka is None or topics is None:
                raise AssertionError("streams without Kafka are refused with the configuration")
            workers = StreamModelArgs(
                config=model,
                resolved=resolved[name],
                image=image,
                namespaces=platform.namespaces,
                kafka=platform.kafka,
                topics=topics,
                addons=addons,
                gate=config.evidence,
                production=config.production,
            )
            StreamModel(name, workers)
            continue
        if model.kind == "batch":
            job = BatchModelArgs(
                config=model,
                resolved=resolved[name][RELEASE],
                image=config.images.get("batch"),
                platform=platform,
                mlflow=addons.mlflow,
                gate=config.evidence,
                production=config.production,
            )
            BatchModel(name, job)
            continue
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


def declare_topics(config: StackConfig, platform: PlatformOutputs) -> Topics | None:
    """The stack's topics, where it has any."""
    if platform.kafka is None or not config.topics:
        return None
    args = TopicsArgs(
        topics=config.topics,
        streams={name: model for name, model in config.models.items() if model.kind == "stream"},
        image=config.images["inference"],
        kafka=platform.kafka,
        namespaces=platform.namespaces,
    )
    return Topics(names.TOPICS, args)
