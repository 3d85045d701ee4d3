"""What each stack renders: one YAML file for each object that the program declares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from infra.config.parse import parse
from infra.deploy import deploy
from tests.infra.recording import RECORDS, Registered, record, resolve_without_registry

GOLDEN = Path(__file__).parent
STACKS = GOLDEN.parents[1] / "stacks"

PROVIDER = "kubernetes:"
"""Goldens hold what reaches the cluster; components and secrets' generators do not."""


def stacks() -> list[str]:
    """Names of the stacks in this checkout."""
    return sorted(path.name.split(".")[1] for path in STACKS.glob("Pulumi.*.yaml"))


def stack_values(stack: str) -> dict[str, str]:
    """The stack file's values as Pulumi hands them to the program."""
    content = yaml.safe_load((STACKS / f"Pulumi.{stack}.yaml").read_text())
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in content["config"].items()}


def rendered(stack: str) -> dict[str, str]:
    """YAML by file name."""
    config = parse(stack_values(stack), RECORDS)
    recorded = record(lambda: deploy(config, resolve_without_registry), preview=False)
    objects = [resource for resource in recorded.resources if resource.type.startswith(PROVIDER)]
    files = {_file_name(resource): _yaml(resource) for resource in objects}
    assert len(files) == len(objects), "two objects of one kind, namespace and name would overwrite each other"
    return files


def kept(stack: str) -> dict[str, str]:
    """The goldens on disk by file name."""
    return {path.name: path.read_text() for path in (GOLDEN / stack).glob("*.yaml")}


def rewrite(stack: str) -> list[str]:
    """Makes the goldens what the program renders now; returns the names of the files that changed."""
    before, after = kept(stack), rendered(stack)
    directory = GOLDEN / stack
    directory.mkdir(exist_ok=True)
    for name in before.keys() - after.keys():
        (directory / name).unlink()
    for name, content in after.items():
        (directory / name).write_text(content)
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _file_name(resource: Registered) -> str:
    described = resource.inputs.get("metadata", resource.inputs)
    place = described.get("namespace", "cluster")
    return f"{place}.{resource.kind.lower()}.{described['name']}.yaml"


def _yaml(resource: Registered) -> str:
    return yaml.safe_dump(_plain(resource.inputs), sort_keys=True, width=110, allow_unicode=True)


def _plain(value: Any) -> Any:
    """Plain data: enums and numbers that a round trip through the engine made floats."""
    if isinstance(value, dict):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_plain(child) for child in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return str(value) if isinstance(value, str) else value
