"""What commands on the registry share: options, formats, how they fail. MLflow is imported where it is used."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer


class Format(StrEnum):
    """How a command prints."""

    TABLE = "table"
    JSON = "json"


TrackingUri = Annotated[
    str | None,
    typer.Option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="MLflow server that holds the registry."),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print the result.")]


def reachable(tracking_uri: str | None) -> str:
    """The registry's address, if it answers there; ends the command where it does not."""
    from tools.registry import RegistryError, check_reachable  # noqa: PLC0415

    try:
        return check_reachable(tracking_uri)
    except RegistryError as error:
        raise failed(str(error)) from error


def failed(message: str) -> typer.Exit:
    """Ends the command with a message for people."""
    typer.echo(f"slipway: {message}", err=True)
    return typer.Exit(1)


def moment(milliseconds: int) -> str:
    """A time of the registry, in milliseconds since the epoch."""
    return datetime.fromtimestamp(milliseconds / 1e3, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
