"""Models for other programs, on an environment that a stack of Slipway has deployed: `pip install slipway[infra]`.

`components/` offers them to programs in any language. Both take what a stack file says, in the same words.
"""

# Without `from __future__ import annotations`: Pulumi reads the types of the arguments to make the package's schema.
import json
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar, cast

import pulumi

from infra import names
from infra.addons.found import found
from infra.config.batch import RELEASE, BatchModelConfig
from infra.config.models import RealtimeModelConfig
from infra.config.parse import checked
from infra.config.platform import ReferencePlatformConfig
from infra.config.stack import StackConfig
from infra.config.streaming import StreamModelConfig
from infra.errors import ConfigError
from infra.outputs import AddonOutputs, PlatformOutputs
from infra.platforms.aws.reference import referenced
from infra.registry.reference import ResolvedModel
from infra.registry.resolve import resolve
from infra.serving.batch import model as batch
from infra.serving.realtime import model as realtime
from infra.serving.streaming import model as streaming


class ModelArgs(TypedDict):
    """What a model is declared from."""

    environment: dict[str, Any]
    """The environment, in a stack file's words: `platform` (a reference), `images`, `topics` and what else matters."""

    model: dict[str, Any]
    """The model, as a stack file has it below `slipway:models.<name>`, without `kind`."""


KINDS = {RealtimeModelConfig: "realtime", BatchModelConfig: "batch", StreamModelConfig: "stream"}
"""What a stack file calls each kind."""

_Model = TypeVar("_Model", RealtimeModelConfig, BatchModelConfig, StreamModelConfig)


@dataclass(frozen=True, kw_only=True)
class _Known(Generic[_Model]):
    """A model's configuration, its versions, and the environment that it comes to."""

    config: StackConfig
    model: _Model
    resolved: dict[str, ResolvedModel]
    registry: str
    platform: PlatformOutputs
    addons: AddonOutputs
    within: pulumi.ResourceOptions

    def image(self, name: str) -> str | None:
        """An image of the environment."""
        return {str(key): value for key, value in self.config.images.items()}.get(name)


def _known(component: pulumi.Resource, kind: type[_Model], name: str, args: ModelArgs) -> _Known[_Model]:
    """Raises ConfigError where the program says something that a stack file may not."""
    said = {**args["environment"], "models": {name: {**args["model"], "kind": KINDS[kind]}}}
    config = checked({f"slipway:{key}": json.dumps(value) for key, value in said.items()})
    if not isinstance(config.platform, ReferencePlatformConfig):
        raise ConfigError(
            [f"slipway:platform.kind: {config.platform.kind} → a model comes to an environment that is there → "
             "refer to its stack: kind: reference"]
        )  # fmt: skip
    registry = config.registry.url or f"{config.platform.url}{names.MLFLOW_PATH}"
    resolved = resolve(config.models, registry)[name]
    platform = referenced(config.platform, name)
    return _Known(
        config=config,
        # Of that kind, as the words above said so.
        model=cast("_Model", config.models[name]),
        resolved=dict(resolved),
        registry=registry,
        platform=platform,
        addons=found(config, platform),
        within=pulumi.ResourceOptions.merge(platform.within, pulumi.ResourceOptions(parent=component)),
    )


class RealtimeModel(pulumi.ComponentResource):
    """A model that answers requests."""

    endpoint: pulumi.Output[str]
    """Base address for callers, without a final slash."""

    def __init__(self, name: str, args: ModelArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:index:RealtimeModel", name, {}, opts)
        known = _known(self, RealtimeModelConfig, name, args)
        inner = realtime.RealtimeModelArgs(
            config=known.model,
            resolved=known.resolved,
            image=known.image("inference"),
            platform=known.platform,
            topics=known.addons.gateway.ready,
            addons=known.addons,
            gate=known.config.evidence,
            production=known.config.production,
            checklist=known.config.checklist,
            registry=known.registry,
        )
        self.endpoint = pulumi.Output.from_input(realtime.RealtimeModel(name, inner, known.within).endpoint)
        self.register_outputs({"endpoint": self.endpoint})


class BatchModel(pulumi.ComponentResource):
    """A model that scores a table on a schedule."""

    schedule: pulumi.Output[str]
    """When, as cron says it."""

    def __init__(self, name: str, args: ModelArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:index:BatchModel", name, {}, opts)
        known = _known(self, BatchModelConfig, name, args)
        inner = batch.BatchModelArgs(
            config=known.model,
            resolved=known.resolved[RELEASE],
            image=known.image(known.model.image_name),
            platform=known.platform,
            mlflow=known.addons.mlflow,
            kuberay=known.addons.kuberay,
            gate=known.config.evidence,
            production=known.config.production,
        )
        batch.BatchModel(name, inner, known.within)
        self.schedule = pulumi.Output.from_input(known.model.schedule)
        self.register_outputs({"schedule": self.schedule})


class StreamModel(pulumi.ComponentResource):
    """A model that scores the messages of a topic. Topics are the environment's; `environment.topics` says which."""

    group: pulumi.Output[str]
    """Consumer group of its workers."""

    def __init__(self, name: str, args: ModelArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:index:StreamModel", name, {}, opts)
        known = _known(self, StreamModelConfig, name, args)
        inner = streaming.StreamModelArgs(
            config=known.model,
            resolved=known.resolved,
            image=known.image("inference"),
            platform=known.platform,
            topics=known.addons.gateway.ready,
            addons=known.addons,
            gate=known.config.evidence,
            production=known.config.production,
        )
        streaming.StreamModel(name, inner, known.within)
        self.group = pulumi.Output.from_input(known.model.group or name)
        self.register_outputs({"group": self.group})
