"""`slipway init`: a stack file to begin with, its keys explained where they stand."""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from tools import paths
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPLATES = Path(__file__).parent


def render(platform: str, values: Mapping[str, str]) -> str:
    """The stack file of a platform. Raises `StepError` where there is no such platform, or a value is missing."""
    template = TEMPLATES / f"{platform}.yaml"
    if not template.exists():
        known = ", ".join(sorted(path.stem for path in TEMPLATES.glob("*.yaml")))
        raise StepError(f"--platform {platform}: no such platform → one of: {known} → name one")
    content = Template(template.read_text())
    missing = sorted(set(content.get_identifiers()) - values.keys())
    if missing:
        options = " ".join(f"--{name} …" for name in missing)
        raise StepError(f"--{', --'.join(missing)}: missing → a file that deploys says it → `slipway init … {options}`")
    return content.substitute(values)


def write(stack: str, content: str) -> Path:
    """Keeps it as the stack's file; one that is there stays."""
    path = paths.PROJECT / "stacks" / f"Pulumi.{stack}.yaml"
    if path.exists():
        raise StepError(f"{path}: is there already → nothing of yours is overwritten → edit it, or name another stack")
    paths.write_whole(path, content.encode())
    return path
