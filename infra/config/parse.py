"""From the raw values of a stack to a typed configuration. Knows no Pulumi."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from infra.config import problems
from infra.config.base import PROJECT, decoded
from infra.config.combinations import (
    grafana_without_prometheus,
    knative_in_the_mesh,
    over_quota,
    refusals,
    unreachable_registry,
    zones_without_aws,
)
from infra.config.schema import stack_schema
from infra.config.stack import StackConfig
from infra.config.stream_combinations import stream_refusals
from infra.errors import ConfigError

BUILD_IMAGES = "slipway images build"
"""Command that records `build/images.json`."""

BUILD_TOOLCHAIN = "slipway toolchain build"
"""Command that records `build/toolchain.json`."""


@dataclass(frozen=True, kw_only=True)
class BuildRecords:
    """What the tools of this checkout recorded: defaults for keys that no one writes by hand."""

    images: Mapping[str, str] = field(default_factory=dict)
    """Image references by name, from `build/images.json`."""
    istio_charts: str | None = None
    """Directory of Istio's charts, from `build/toolchain.json`."""
    kserve_charts: str | None = None
    """Directory of KServe's, which only a stack with the add-on needs."""
    keda_charts: str | None = None
    """Directory of KEDA's, likewise."""
    kuberay_charts: str | None = None
    """Directory of KubeRay's, likewise."""


def parse(values: Mapping[str, str], records: BuildRecords) -> StackConfig:
    """The stack's configuration from `slipway:<key>` values as Pulumi hands them out.

    Objects arrive as JSON text. What the stack file says wins over what the tools recorded.
    Raises ConfigError with every problem at once.
    """
    return _complete(checked(values, records.images), records)


def checked(values: Mapping[str, str], images: Mapping[str, str] | None = None) -> StackConfig:
    """What the values say on their own, without a look at what is built; `images` are defaults by name."""
    raw = {key.removeprefix(f"{PROJECT}:"): _decode(value) for key, value in values.items() if _ours(key)}
    raw["images"] = _merged(images or {}, raw.get("images", {}))
    try:
        # Strict, and as JSON: `true` is no number, "3" neither, and a list is read where a tuple is kept.
        config = StackConfig.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        raise ConfigError(problems.render(error, stack_schema())) from None
    refused = [line for name, model in config.models.items() for line in refusals(name, model, config.addons)]
    refused += over_quota(config.models, config.platform.gpus)
    refused += stream_refusals(config)
    refused += unreachable_registry(config)
    refused += grafana_without_prometheus(config)
    refused += zones_without_aws(config)
    refused += knative_in_the_mesh(config)
    if refused:
        raise ConfigError(refused)
    return config


def _ours(key: str) -> bool:
    return key.startswith(f"{PROJECT}:")


def _decode(value: str) -> Any:
    try:
        return decoded(value)
    except json.JSONDecodeError:
        return value  # a plain string; the schema says whether one may stand here


def _merged(recorded: Mapping[str, str], configured: Any) -> Any:
    return {**recorded, **configured} if isinstance(configured, Mapping) else configured


def _complete(config: StackConfig, records: BuildRecords) -> StackConfig:
    """Fills in the records and checks what only the whole configuration can tell."""
    missing = [
        f"{PROJECT}:images.{name}: missing → every image is known by its digest → run `{BUILD_IMAGES}` or set the key"
        for name in needed_images(config)
        if name not in config.images
    ]
    addons, everything = config.addons, config.deploys == "everything"
    charts = {
        "istio": (everything, addons.istio.charts or records.istio_charts),
        "kserve": (everything and addons.kserve.enabled, addons.kserve.charts or records.kserve_charts),
        "keda": (everything and addons.keda.enabled, addons.keda.charts or records.keda_charts),
        "kuberay": (everything and addons.kuberay.enabled, addons.kuberay.charts or records.kuberay_charts),
    }
    missing += [
        f"{PROJECT}:addons.{name}.charts: missing → the add-on is installed from its own charts → "
        f"run `{BUILD_TOOLCHAIN}` or set the key to their directory"
        for name, (wanted, directory) in charts.items()
        if wanted and directory is None
    ]
    if missing:
        raise ConfigError(missing)
    filled = {
        name: getattr(addons, name).model_copy(update={"charts": directory}) for name, (_, directory) in charts.items()
    }
    return config.model_copy(update={"addons": addons.model_copy(update=filled)})


def needed_images(config: StackConfig) -> tuple[str, ...]:
    """Names of the images that the configuration deploys."""
    if config.deploys == "platform":
        return config.platform.images
    models = config.models.values()
    releases = [each for model in models if model.kind == "realtime" for each in model.releases.values()]
    streams = [model for model in models if model.kind == "stream"]
    named = [*(each.image for each in releases), *(each.image for each in streams)]
    # Topics are declared from the service's image, which has Kafka's client; KServe fetches models with it.
    inference = ("inference",) if config.topics or config.addons.kserve.enabled or None in named else ()
    batch = dict.fromkeys(model.image_name for model in models if model.kind == "batch" and model.image is None)
    wanted = {
        ("prometheus", "prometheus-adapter"): config.addons.monitoring.enabled,
        ("kserve",): config.addons.kserve.enabled,
        ("keda",): config.addons.keda.enabled,
        ("kuberay",): config.addons.kuberay.enabled,
        ("istio-cni",): config.mtls,
    }
    addons = [name for images, enabled in wanted.items() if enabled for name in images]
    base = dict.fromkeys([*config.platform.images, "mlflow", "istiod", "istio-proxy"])
    return (*base, *addons, *inference, *batch)
