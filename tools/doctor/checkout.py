"""What every stack needs of this checkout and machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from infra.config.parse import BUILD_IMAGES, BUILD_TOOLCHAIN, checked, needed_images
from infra.errors import ConfigError
from tools.doctor.check import Finding, bad, good, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from infra.config.stack import StackConfig


def configuration(config: Mapping[str, Any]) -> tuple[StackConfig | None, list[Finding]]:
    """The stack file by the program's own rules. What tools record is a check of its own."""
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}
    try:
        parsed = checked(values)
    except ConfigError as error:
        return None, [Finding("bad", "stack file", line) for line in error.problems]
    models = "1 model" if len(parsed.models) == 1 else f"{len(parsed.models)} models"
    return parsed, [good("stack file", f"platform {parsed.platform.kind}, {models}")]


def images(config: StackConfig, build: Path) -> Finding:
    """What the stack deploys is built, or named in its file."""
    recorded = _json(build / "images.json")
    wanted = needed_images(config)
    missing = [name for name in wanted if name not in {*recorded, *config.images}]
    if missing:
        return bad("images", f"no {', '.join(missing)}", "every image is known by its digest", f"`{BUILD_IMAGES}`")
    return good("images", f"{len(wanted)} by digest")


def charts(config: StackConfig, build: Path) -> Iterator[Finding]:
    """Charts that add-ons are installed from."""
    recorded = _json(build / "toolchain.json")
    addons = config.addons
    wanted = {
        "istio": True,
        "kserve": addons.kserve.enabled,
        "keda": addons.keda.enabled,
        "kuberay": addons.kuberay.enabled,
    }
    for name in (each for each, needed in wanted.items() if needed):
        directory = getattr(addons, name).charts or recorded.get(f"{name}_charts")
        if directory is None:
            yield bad(f"charts of {name}", "none recorded", "add-ons have charts of their own", f"`{BUILD_TOOLCHAIN}`")
        elif not os.path.isdir(directory):  # noqa: PTH112 (a text from a file)
            yield bad(f"charts of {name}", directory, "a directory that is there", f"`{BUILD_TOOLCHAIN}`")
        else:
            yield good(f"charts of {name}", directory)


def engine(variables: Mapping[str, str]) -> Finding:
    """The engine's version beside the SDK's."""
    wanted = ".".join(version("pulumi").split(".")[:2])
    try:
        done = subprocess.run(
            ["pulumi", "version"], env={**os.environ, **variables}, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return bad("pulumi", "not on PATH", f"version {wanted}", f"install it, or `{BUILD_TOOLCHAIN}`")
    found = done.stdout.strip().removeprefix("v")
    if re.match(rf"{re.escape(wanted)}[.]", found):
        return good("pulumi", found)
    return bad("pulumi", found or done.stderr.strip(), f"as the SDK, {wanted}", "install that version")


def backend(variables: Mapping[str, str]) -> Iterator[Finding]:
    """Where state is kept, and what its secrets are encrypted with."""
    url = variables.get("PULUMI_BACKEND_URL", "")
    yield good("state", url) if url else unknown("state", "PULUMI_BACKEND_URL is not set", "`pulumi whoami --verbose`")


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found
