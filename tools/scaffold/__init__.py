"""`slipway init`: a stack file to begin with, its keys explained where they stand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import yaml

from infra.config.parse import checked
from infra.errors import ConfigError
from tools import paths
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPLATES = Path(__file__).parent

STACK = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
"""Pulumi's own rule, and no name that leaves the directory of stack files."""


def render(platform: str, values: Mapping[str, str]) -> str:
    """The stack file of a platform. Raises `StepError` where there is no such platform, or a value is missing
    or not one that the program takes.
    """
    template = TEMPLATES / f"{platform}.yaml"
    if not template.exists():
        known = ", ".join(sorted(path.stem for path in TEMPLATES.glob("*.yaml")))
        raise StepError(f"--platform {platform}: no such platform → one of: {known} → name one")
    content = Template(template.read_text())
    missing = sorted(set(content.get_identifiers()) - values.keys())
    if missing:
        options = " ".join(f"--{name} …" for name in missing)
        raise StepError(f"--{', --'.join(missing)}: missing → a file that deploys says it → `slipway init … {options}`")
    rendered = content.substitute(values)
    try:
        config = yaml.safe_load(rendered)["config"]
        checked({key: json.dumps(value) for key, value in config.items()})
    except (yaml.YAMLError, ConfigError) as error:
        raise StepError(f"these values make no stack file: {error}") from error
    return rendered


def write(stack: str, content: str) -> Path:
    """Keeps it as the stack's file; one that is there stays."""
    if not STACK.fullmatch(stack):
        raise StepError(f"{stack!r}: a stack's name → letters, digits and ._- → choose another")
    path = paths.PROJECT / "stacks" / f"Pulumi.{stack}.yaml"
    if path.exists():
        raise StepError(f"{path}: is there already → nothing of yours is overwritten → edit it, or name another stack")
    paths.write_whole(path, content.encode())
    return path
