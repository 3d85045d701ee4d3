"""The one arrow: configuration → platform → add-ons → models → the stack's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from infra import names
from infra.addons.install import install
from infra.config.batch import RELEASE
from infra.config.models import ModelConfig
from infra.platforms.provision import provision
from infra.registry.resolve import Resolved, resolve
from infra.serving.batch.model import BatchModel, BatchModelArgs
from infra.serving.realtime import release
from infra.serving.realtime.model import RealtimeModel, RealtimeModelArgs
from infra.serving.streaming import worker
from infra.serving.streaming.model import StreamModel, StreamModelArgs
from infra.serving.streaming.topics import Topics, TopicsArgs

if TYPE_CHECKING:
    from infra.access import Needs
    from infra.config.batch import BatchModelConfig
    from infra.config.models import RealtimeModelConfig
    from infra.config.stack import StackConfig
    from infra.config.streaming import StreamModelConfig
    from infra.outputs import AddonOutputs, PlatformOutputs

Resolver: TypeAlias = Callable[[Mapping[str, ModelConfig], str], Resolved]
"""Resolves the models' references in the registry at an address."""


def deploy(config: StackConfig, resolver: Resolver = resolve) -> dict[str, Any]:
    """Declares everything and returns the stack's outputs by name.

    References are resolved first: a model that does not exist stops the update before it starts.
    """
    registry = config.registry.url or f"{config.platform.url}{names.MLFLOW_PATH}"
    resolved = resolver(config.models, registry)
    platform, exported = provision(config)
    if config.deploys == "platform":
        return exported
    addons = install(config, platform)
    models = Models(config=config, registry=registry, resolved=resolved, platform=platform, addons=addons)
    served = {
        "mlflow": addons.mlflow.public_url,
        "prometheus": addons.monitoring and addons.monitoring.public_url,
        "grafana": addons.grafana and addons.grafana.public_url,
    }
    return {
        **exported,
        "endpoints": models.declare(),
        "gateway": addons.gateway.url,
        **{name: url for name, url in served.items() if url is not None},
    }


@dataclass(frozen=True, kw_only=True)
class Models:
    """What the models of a stack are declared from: one method for each kind."""

    config: StackConfig
    registry: str
    resolved: Resolved
    platform: PlatformOutputs
    addons: AddonOutputs

    def declare(self) -> dict[str, str]:
        """Declares topics and models; endpoints of those that answer requests, by name."""
        topics = self._topics()
        endpoints = {}
        for name, model in self.config.models.items():
            if model.kind == "realtime":
                endpoints[name] = self._realtime(name, model, topics)
            elif model.kind == "batch":
                self._batch(name, model)
            else:
                self._stream(name, model, topics)
        return endpoints

    def _realtime(self, name: str, model: RealtimeModelConfig, topics: Topics | None) -> str:
        args = RealtimeModelArgs(
            config=model,
            resolved=self.resolved[name],
            image=self.config.images.get("inference"),
            platform=self.platform,
            topics=None if topics is None else topics.applied,
            addons=self.addons,
            gate=self.config.evidence,
            production=self.config.production,
            checklist=self.config.checklist,
            registry=self.registry,
        )
        return RealtimeModel(name, args, self.platform.within).endpoint

    def _batch(self, name: str, model: BatchModelConfig) -> None:
        args = BatchModelArgs(
            config=model,
            resolved=self.resolved[name][RELEASE],
            image=self.config.images.get(model.image_name),
            platform=self.platform,
            mlflow=self.addons.mlflow,
            kuberay=self.addons.kuberay,
            gate=self.config.evidence,
            production=self.config.production,
        )
        BatchModel(name, args, self.platform.within)

    def _stream(self, name: str, model: StreamModelConfig, topics: Topics | None) -> None:
        if topics is None:
            raise AssertionError("streams without topics are refused with the configuration")
        args = StreamModelArgs(
            config=model,
            resolved=self.resolved[name],
            image=self.config.images.get("inference"),
            platform=self.platform,
            topics=topics.applied,
            addons=self.addons,
            gate=self.config.evidence,
            production=self.config.production,
        )
        StreamModel(name, args, self.platform.within)

    def _topics(self) -> Topics | None:
        """The stack's topics, where it has any."""
        if not self.config.topics:
            return None
        args = TopicsArgs(
            topics=self.config.topics,
            clients=self._clients(),
            image=self.config.images["inference"],
            platform=self.platform,
        )
        return Topics(names.TOPICS, args, self.platform.within)

    def _clients(self) -> dict[str, Needs]:
        """Who uses topics, by account."""
        found = {}
        for name, model in self.config.models.items():
            if model.kind == "stream":
                found[names.stream(name)] = worker.needs(name, model)
            elif model.kind == "realtime" and (needs := release.needs(model)).produces:
                found |= {names.workload(name, each): needs for each in model.releases}
        return found
