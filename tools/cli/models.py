"""`slipway models`: train, register and look at models. MLflow and torch are imported by the commands."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from tools import example

if TYPE_CHECKING:
    from tools.registry import RegisteredVersion

app = typer.Typer(name="models", help="Train, register and look at models.", no_args_is_help=True)


class Format(StrEnum):
    """How a command prints."""

    TABLE = "table"
    JSON = "json"


TrackingUri = Annotated[
    str | None,
    typer.Option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="MLflow server that holds the registry."),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print the result.")]


@app.command()
def train_example(
    tracking_uri: TrackingUri = None,
    alias: Annotated[str, typer.Option(help="Alias that then points at the version.")] = "champion",
    output: Output = Format.TABLE,
) -> None:
    """Train the Breast Cancer Wisconsin example, evaluate it on its holdout, register it."""
    uri = _reachable(tracking_uri)
    version = example.register(uri, alias)
    _print_one(version, output)


@app.command("list")
def list_models(tracking_uri: TrackingUri = None, output: Output = Format.TABLE) -> None:
    """List the models of the registry with their newest versions."""
    uri = _reachable(tracking_uri)
    from tools.registry import list_versions  # noqa: PLC0415

    versions = list_versions(uri)
    if output is Format.JSON:
        print(json.dumps([_plain(version) for version in versions], indent=1))
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table("model", "version", "aliases", "registered", "digest")
    for version in versions:
        table.add_row(
            version.name, version.version, ", ".join(version.aliases), _date(version), version.digest[:19] or "none"
        )
    Console().print(table if versions else f"no model is registered in {uri}: `slipway models train-example` makes one")


@app.command()
def show(
    model: Annotated[str, typer.Argument(metavar="NAME[/VERSION]", help="The newest version where none is named.")],
    tracking_uri: TrackingUri = None,
    output: Output = Format.TABLE,
) -> None:
    """Show one version: digests, aliases, metrics, parameters."""
    uri = _reachable(tracking_uri)
    from tools.registry import RegistryError, show_version  # noqa: PLC0415

    name, _, version = model.partition("/")
    try:
        found = show_version(uri, name, version or None)
    except RegistryError as error:
        raise _failed(str(error)) from error
    _print_one(found, output)


def _reachable(tracking_uri: str | None) -> str:
    from tools.registry import RegistryError, check_reachable  # noqa: PLC0415

    try:
        return check_reachable(tracking_uri)
    except RegistryError as error:
        raise _failed(str(error)) from error


def _failed(message: str) -> typer.Exit:
    typer.echo(f"slipway: {message}", err=True)
    return typer.Exit(1)


def _print_one(version: RegisteredVersion, output: Format) -> None:
    if output is Format.JSON:
        print(json.dumps(_plain(version), indent=1))
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(show_header=False)
    state = "registered now" if version.created else f"registered {_date(version)}"
    for key, value in (
        ("model", version.name),
        ("version", f"{version.version} ({state})"),
        ("aliases", ", ".join(version.aliases) or "none"),
        ("digest", version.digest or "none: not registered by slipway, a release of it cannot be verified"),
        ("release with", version.uri),
    ):
        table.add_row(key, value)
    table.add_section()
    for name, number in sorted(version.metrics.items()):
        table.add_row(name, f"{number:.4g}")
    table.add_section()
    for name, value in sorted(version.parameters.items()):
        table.add_row(name, value)
    Console().print(table)


def _plain(version: RegisteredVersion) -> dict[str, object]:
    return {**asdict(version), "uri": version.uri}


def _date(version: RegisteredVersion) -> str:
    return datetime.fromtimestamp(version.created_ms / 1e3, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
