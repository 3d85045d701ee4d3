"""The list of models of a process that serves several: one YAML file, checked whole before anything is loaded.

models:
  - name: fraud
    uri: models:/fraud/7
    digest: sha256:…
    pinned: true
  - name: fraud
    uri: models:/fraud@challenger
    lazy: true
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.inference.core.catalog import ModelSpec
from services.inference.core.document import read_document
from services.inference.core.errors import InvalidArtifact
from services.inference.settings import Digest, Name  # noqa: TC001  # pydantic reads them

if TYPE_CHECKING:
    from pathlib import Path


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    uri: Annotated[str, StringConstraints(min_length=1)]
    digest: Digest | None = None
    version: Name | None = None
    default: bool = False
    lazy: bool = False
    pinned: bool = False
    shadows: Name | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    models: tuple[_Entry, ...] = Field(min_length=1)


def read_models(path: Path) -> list[ModelSpec]:
    """Read and check; `InvalidArtifact` names the entry and key that is wrong."""
    rule, remedy = "it lists models, each with a name and a uri", "correct the file"
    entries = read_document(path, _File, yaml.safe_load, rule, remedy, name=f"SLIPWAY_MODELS_FILE {path}").models
    for name in {entry.name for entry in entries}:
        versions = [entry for entry in entries if entry.name == name]
        places = [(entry.uri, entry.version) for entry in versions]
        if sum(entry.default for entry in versions) > 1 or len(set(places)) != len(places):
            raise InvalidArtifact(
                f"SLIPWAY_MODELS_FILE {path}: model {name!r}",
                "its versions differ, and at most one is the default",
                "correct the file",
            )
    names = {entry.name for entry in entries}
    for entry in entries:
        if entry.shadows is not None and (entry.shadows not in names or entry.shadows == entry.name):
            raise InvalidArtifact(
                f"SLIPWAY_MODELS_FILE {path}: model {entry.name!r} shadows {entry.shadows!r}",
                "a shadow sees the traffic of another model of the list",
                "correct the file",
            )
    return [ModelSpec(**entry.model_dump()) for entry in entries]
