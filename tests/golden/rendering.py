"""What each stack renders: what the program declares, as YAML files."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from infra.config.parse import parse
from infra.deploy import deploy
from tests.infra.recording import RECORDS, Recorded, Registered, record, resolve_without_registry

GOLDEN = Path(__file__).parent
STACKS = GOLDEN.parents[1] / "stacks"

OBJECTS = "kubernetes:"
"""Of what reaches a cluster there is a file for each object."""

CLOUD = "aws:"
"""Of what reaches AWS there is a file for each service, of all inputs by kind and name."""


def stacks() -> list[str]:
    """Names of the stacks in this checkout."""
    return sorted(path.name.split(".")[1] for path in STACKS.glob("Pulumi.*.yaml"))


def stack_values(stack: str) -> dict[str, str]:
    """The stack file's values as Pulumi hands them to the program."""
    content = yaml.safe_load((STACKS / f"Pulumi.{stack}.yaml").read_text())
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in content["config"].items()}


@cache
def deployed(stack: str, *, preview: bool = False) -> Recorded:
    """What the stack declares. A stack that refers to another one gets what that one exports."""
    return declared(stack, preview=preview)


def declared(stack: str, *, preview: bool = False) -> Recorded:
    """`deployed`, every time anew."""
    config = parse(stack_values(stack), RECORDS)
    others = {}
    if config.platform.kind == "reference":
        others[config.platform.stack] = deployed(config.platform.stack.rpartition("/")[2]).outputs
    return record(lambda: deploy(config, resolve_without_registry), preview=preview, stacks=others)


def rendered(recorded: Recorded) -> dict[str, str]:
    """YAML by file name."""
    objects = [resource for resource in recorded.resources if resource.type.startswith(OBJECTS)]
    files = {_file_name(resource): _yaml(resource.inputs) for resource in objects}
    assert len(files) == len(objects), "two objects of one kind, namespace and name would overwrite each other"
    return {**files, **_services(recorded)}


def _services(recorded: Recorded) -> dict[str, str]:
    found: dict[str, dict[str, Any]] = {}
    for resource in recorded.resources:
        if resource.type.startswith(CLOUD):
            service = resource.type.split(":")[1].partition("/")[0]
            known = found.setdefault(service, {})
            name = f"{resource.kind} {resource.name}"
            assert name not in known, f"two resources are {name}"
            # Policies are JSON within: as data a change of one shows where it is.
            known[name] = {key: _document(value) for key, value in resource.inputs.items() if value is not None}
    return {f"aws.{service}.yaml": _yaml(resources) for service, resources in found.items()}


def _document(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value.startswith('{"Version"') else value


def kept(stack: str) -> dict[str, str]:
    """The goldens on disk by file name."""
    return {path.name: path.read_text() for path in (GOLDEN / stack).glob("*.yaml")}


def rewrite(stack: str) -> list[str]:
    """Makes the goldens what the program renders now; returns the names of the files that changed."""
    before, after = kept(stack), rendered(declared(stack))
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


def _yaml(content: Any) -> str:
    return yaml.safe_dump(_plain(content), sort_keys=True, width=110, allow_unicode=True)


def _plain(value: Any) -> Any:
    """Plain data: enums and numbers that a round trip through the engine made floats."""
    if isinstance(value, dict):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_plain(child) for child in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return str(value) if isinstance(value, str) else value
