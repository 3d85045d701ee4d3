"""The one place that reads Pulumi's configuration and the records of this checkout's tools."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pulumi

from infra.config.parse import BUILD_IMAGES, BUILD_TOOLCHAIN, BuildRecords, parse
from infra.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from infra.config.stack import StackConfig


def load(checkout: Path) -> StackConfig:
    """The configuration of the stack that is running. Raises ConfigError with every problem at once."""
    # `pulumi.Config` looks up keys it is asked for; refusing unknown ones takes all that there are.
    values = {**pulumi.runtime.get_config_env(), **pulumi.runtime.config.CONFIG.get()}
    return parse({key: str(value) for key, value in values.items()}, read_records(checkout / "build"))


def read_records(build: Path) -> BuildRecords:
    """What the tools recorded in the `build` directory; a missing file records nothing."""
    images = _read_json(build / "images.json", BUILD_IMAGES)
    toolchain = _read_json(build / "toolchain.json", BUILD_TOOLCHAIN)
    charts = {key: toolchain.get(key) for key in ("istio_charts", "kserve_charts", "keda_charts", "kuberay_charts")}
    return BuildRecords(images=images, **charts)


def _read_json(path: Path, command: str) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ConfigError([f"{path}: {error} → holds JSON → run `{command}` again"]) from None
    if not isinstance(content, dict):
        raise ConfigError([f"{path}: {type(content).__name__} → holds a JSON object → run `{command}` again"])
    return content
