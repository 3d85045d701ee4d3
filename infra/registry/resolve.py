"""From the references of the stack file to versions and digests, before anything is deployed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

from infra.config.base import PROJECT
from infra.errors import RegistryError
from infra.registry.client import connect
from infra.registry.mlflow import MlflowRegistry, NoSuchEntryError, Version
from infra.registry.reference import ResolvedModel, parse_reference
from services.contract import DIGEST_TAG

if TYPE_CHECKING:
    from infra.config.models import ModelConfig
    from infra.evidence.seal import Reading

Resolved: TypeAlias = Mapping[str, Mapping[str, ResolvedModel]]
"""By model, then by release."""


class Registry(Protocol):
    """What resolving asks of a registry; `MlflowRegistry` is one."""

    def version(self, name: str, version: str) -> Version:
        """A version by number."""

    def version_of_alias(self, name: str, alias: str) -> Version:
        """The version that an alias points at now."""

    def versions(self, name: str) -> list[str]:
        """Numbers of a model's versions, newest first."""

    def digest(self, name: str, version: str) -> str:
        """Digest of a version's artifact."""

    def evidence(self, version: Version) -> Reading | None:
        """What was recorded about a version when it was evaluated."""


def resolve(models: Mapping[str, ModelConfig], url: str) -> Resolved:
    """Resolves every reference in the registry at `url`, which is asked only if there is one."""
    if not models:
        return {}
    with connect(url) as connection:
        return resolve_in(models, MlflowRegistry(connection))


def resolve_in(models: Mapping[str, ModelConfig], registry: Registry) -> Resolved:
    """Resolves every reference in the registry. Raises RegistryError with all that fail to."""
    problems: list[str] = []
    resolved: dict[str, dict[str, ResolvedModel]] = {}
    for model, config in models.items():
        resolved[model] = {}
        for release, (below, reference) in config.references.items():
            key = f"{PROJECT}:models.{model}.{below}"
            try:
                resolved[model][release] = _resolve_one(reference, registry)
            except NoSuchEntryError:
                problems.append(f"{key}: {reference} → {_what_there_is(reference, registry)}")
            except RegistryError as error:
                raise RegistryError(f"{key}: {reference}: {error}") from error
    if problems:
        raise RegistryError("\n".join(problems))
    return resolved


def _resolve_one(text: str, registry: Registry) -> ResolvedModel:
    reference = parse_reference(text)
    found = (
        registry.version(reference.name, reference.version)
        if reference.version is not None
        else registry.version_of_alias(reference.name, str(reference.alias))
    )
    return ResolvedModel(
        reference=text,
        name=reference.name,
        version=found.version,
        digest=found.tags.get(DIGEST_TAG) or registry.digest(reference.name, found.version),
        evidence=registry.evidence(found),
    )


def _what_there_is(text: str, registry: Registry) -> str:
    """Rule and remedy for a reference to nothing."""
    reference = parse_reference(text)
    versions = _or_none(lambda: registry.versions(reference.name))
    if not versions:
        return f"the registry has no model {reference.name} → register it, or correct the name"
    kind = f"version {reference.version}" if reference.version else f"alias {reference.alias}"
    return f"{reference.name} has no {kind} → use one of its versions ({', '.join(versions[:10])}) or register it"


def _or_none(ask: Callable[[], list[str]]) -> list[str]:
    try:
        return ask()
    except NoSuchEntryError:
        return []
