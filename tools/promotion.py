"""Which version an alias points at, and which it pointed at before: promotions and rollbacks, none of them lost.

MLflow's aliases have no history and no compare-and-set: of two people who promote at once, one is overwritten without a
trace. So the truth is a log that can only grow, and the alias follows it:

1. an entry is appended: a version of the registered model `<name>.promotions`, whose number MLflow's database gives out
   once, so that all who look see the same order
2. the log is replayed: a promotion puts a version on top, a rollback takes off the one that it was meant for
3. the alias is set to what is on top, and the log read again, until nobody has appended meanwhile

A command that is killed after 1 is finished by the next promotion, whoever's it is. An alias that was moved by other
means is not rolled back into the unknown: somebody has to say first where it should be.
"""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tools.registry import LOG_SUFFIX, RegistryError, client_of, show_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow import MlflowClient

_ACTION, _ALIAS, _VERSION, _BY = (f"slipway.promotion.{key}" for key in ("action", "alias", "version", "by"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the log."""

    number: int
    action: Literal["promote", "rollback"]
    alias: str
    version: str
    """Of a promotion the new version, of a rollback the one that is left."""
    by: str
    at_ms: int
    """Milliseconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where an alias stands."""

    name: str
    alias: str
    version: str
    previous: str | None
    """What a rollback would bring back."""
    changed: bool
    """Whether this call moved it."""
    settled: bool = True
    """Whether the alias is where its log ends: a rollback refuses where somebody moved it by other means."""


def promote(tracking_uri: str, name: str, version: str, alias: str = "champion") -> Standing:
    """Point an alias at a version, and remember where it pointed; promoting what is there already changes nothing."""
    show_version(tracking_uri, name, version)  # it exists
    client = client_of(tracking_uri)
    stack = _adopted(client, name, alias)
    if not stack or stack[-1] != version:
        _append(client, name, "promote", alias, version)
    return _settled(client, name, alias, before=stack)


def rollback(tracking_uri: str, name: str, alias: str = "champion") -> Standing:
    """Point an alias at the version before; `RegistryError` where there is none."""
    client = client_of(tracking_uri)
    stack = _adopted(client, name, alias)
    if len(stack) < 2:  # noqa: PLR2004  # this and the one before
        at = f"is at version {stack[-1]}" if stack else "points nowhere"
        raise RegistryError(
            f"alias {alias!r} of {name!r} {at} → it was promoted from another version before it can go back "
            f"→ `slipway models promote {name}/<version>`"
        )
    if (found := _alias(client, name, alias)) != stack[-1]:
        raise RegistryError(
            f"alias {alias!r} of {name!r} points at {found}, its log at {stack[-1]} → it is moved by slipway alone "
            f"→ `slipway models promote {name}/{found or stack[-1]}` to keep it there, or promote another"
        )
    # It names what it leaves: of two people who roll the same version back, only the first does.
    _append(client, name, "rollback", alias, stack[-1])
    return _settled(client, name, alias, before=stack)


def history(tracking_uri: str, name: str) -> list[Entry]:
    """The log of a model, oldest first."""
    return _entries(client_of(tracking_uri), name)


def standing(tracking_uri: str, name: str, alias: str = "champion") -> Standing | None:
    """Where an alias stands, and what a rollback would bring back; None where it points nowhere. Changes nothing."""
    client = client_of(tracking_uri)
    at = _alias(client, name, alias)
    if at is None:
        return None
    stack = replay(_entries(client, name), alias) or [at]
    return Standing(
        name=name,
        alias=alias,
        version=at,
        previous=stack[-2] if len(stack) > 1 else None,
        changed=False,
        settled=stack[-1] == at,
    )


def replay(entries: Sequence[Entry], alias: str) -> list[str]:
    """Versions that an alias has pointed at and can go back to; the last is where it points."""
    stack: list[str] = []
    for entry in entries:
        if entry.alias != alias:
            continue
        on_top = bool(stack) and stack[-1] == entry.version
        if entry.action == "promote" and not on_top:
            stack.append(entry.version)
        elif entry.action == "rollback" and on_top and len(stack) > 1:
            stack.pop()
    return stack


def _adopted(client: MlflowClient, name: str, alias: str) -> list[str]:
    """The replayed log; an alias that was set without it becomes its first entry."""
    stack = replay(_entries(client, name), alias)
    if not stack and (at := _alias(client, name, alias)) is not None:
        _append(client, name, "promote", alias, at)
        stack = [at]
    return stack


def _settled(client: MlflowClient, name: str, alias: str, *, before: list[str]) -> Standing:
    entries = _entries(client, name)
    while True:
        stack = replay(entries, alias)
        if _alias(client, name, alias) != stack[-1]:
            client.set_registered_model_alias(name, alias, stack[-1])
        again = _entries(client, name)
        if len(again) == len(entries):
            previous = stack[-2] if len(stack) > 1 else None
            return Standing(name=name, alias=alias, version=stack[-1], previous=previous, changed=stack != before)
        entries = again


def _append(client: MlflowClient, name: str, action: str, alias: str, version: str) -> None:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    log = name + LOG_SUFFIX
    try:
        client.create_registered_model(log, description=f"Who moved the aliases of {name}.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {_ACTION: action, _ALIAS: alias, _VERSION: version, _BY: getpass.getuser()}
    client.create_model_version(log, source=f"models:/{name}/{version}", tags=tags, await_creation_for=0)


def _entries(client: MlflowClient, name: str) -> list[Entry]:
    found: list[Entry] = []
    token: str | None = None
    quoted = (name + LOG_SUFFIX).replace("'", "''")
    while True:
        page = client.search_model_versions(f"name = '{quoted}'", max_results=1000, page_token=token)
        for version in page:
            tags = version.tags
            found.append(
                Entry(
                    number=int(version.version),
                    action="rollback" if tags.get(_ACTION) == "rollback" else "promote",
                    alias=tags.get(_ALIAS, ""),
                    version=tags.get(_VERSION, ""),
                    by=tags.get(_BY, ""),
                    at_ms=int(version.creation_timestamp),
                )
            )
        token = page.token
        if not token:
            return sorted(found, key=lambda entry: entry.number)


def _alias(client: MlflowClient, name: str, alias: str) -> str | None:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    try:
        at = client.get_registered_model(name).aliases.get(alias)
    except MlflowException as error:
        raise RegistryError(f"model {name!r} is not registered → it is → `slipway models list`") from error
    return None if at is None else str(at)
