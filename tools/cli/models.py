"""`slipway models`: train, register and look at models. MLflow and torch are imported by the commands."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tools import example
from tools.cli import evaluation
from tools.cli.registry import Format, Output, TrackingUri, failed, moment, reachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from infra.evidence.seal import Reading
    from tools.promotion import Entry, Standing
    from tools.registry import RegisteredVersion

app = typer.Typer(name="models", help="Train, register and look at models.", no_args_is_help=True)


app.command()(evaluation.evaluate)
app.command()(evaluation.signer)


@app.command()
def train_example(
    tracking_uri: TrackingUri = None,
    alias: Annotated[str, typer.Option(help="Alias that then points at the version.")] = "champion",
    output: Output = Format.TABLE,
) -> None:
    """Train the Breast Cancer Wisconsin example, evaluate it on its holdout, register it."""
    uri = reachable(tracking_uri)
    version = example.register(uri, alias)
    _print_one(version, output)


@app.command("list")
def list_models(tracking_uri: TrackingUri = None, output: Output = Format.TABLE) -> None:
    """List the models of the registry with their newest versions."""
    uri = reachable(tracking_uri)
    from tools.registry import list_versions  # noqa: PLC0415

    versions = list_versions(uri)
    if output is Format.JSON:
        print(json.dumps([_plain(version) for version in versions], indent=1))
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Column, Table  # noqa: PLC0415

    table = Table(Column("model", no_wrap=True), "version", "aliases", "registered", "digest", "evidence")
    for version in versions:
        table.add_row(
            version.name,
            version.version,
            ", ".join(version.aliases),
            _date(version),
            version.digest[:19] or "none",
            "recorded" if version.evaluated else "none",
        )
    Console().print(table if versions else f"no model is registered in {uri}: `slipway models train-example` makes one")


@app.command()
def show(
    model: evaluation.Reference,
    tracking_uri: TrackingUri = None,
    output: Output = Format.TABLE,
) -> None:
    """Show one version: digests, aliases, metrics, parameters, evidence; and where the model's aliases have been."""
    uri = reachable(tracking_uri)
    version = evaluation.found(uri, model)
    from infra.evidence.checklist import Bounds, judge  # noqa: PLC0415
    from tools.evaluation.record import read  # noqa: PLC0415

    reading = read(uri, version)
    moves = promotion().history(uri, version.name)
    if output is Format.JSON:
        more = {"evidence": reading and reading.plain(), "promotions": [asdict(entry) for entry in moves]}
        print(json.dumps({**_plain(version), **more}, indent=1))
        return
    _print_one(version, output)
    print(_evidence(reading, version))
    if reading is not None and reading.document:
        evaluation.print_verdicts("against no stack's bounds", judge(reading.document, Bounds()))
    _print_history(version.name, moves)


Alias = Annotated[str, typer.Option(help="The alias that releases follow.")]


@app.command()
def promote(
    model: Annotated[str, typer.Argument(metavar="NAME/VERSION")],
    alias: Alias = "champion",
    tracking_uri: TrackingUri = None,
    output: Output = Format.TABLE,
) -> None:
    """Point an alias at a version, and remember where it pointed before."""
    uri = reachable(tracking_uri)
    name, _, version = model.partition("/")
    if not version:
        raise failed(f"{model} → a version is promoted, not a model → `slipway models promote {name}/<version>`")
    _print_standing(lambda: promotion().promote(uri, name, version, alias), output)


@app.command()
def rollback(
    model: Annotated[str, typer.Argument(metavar="NAME")],
    alias: Alias = "champion",
    tracking_uri: TrackingUri = None,
    output: Output = Format.TABLE,
) -> None:
    """Point an alias back at the version before."""
    uri = reachable(tracking_uri)
    _print_standing(lambda: promotion().rollback(uri, model, alias), output)


@app.command()
def history(
    model: Annotated[str, typer.Argument(metavar="NAME")],
    tracking_uri: TrackingUri = None,
    output: Output = Format.TABLE,
) -> None:
    """Who moved a model's aliases, and when."""
    entries = promotion().history(reachable(tracking_uri), model)
    if output is Format.JSON:
        print(json.dumps([asdict(entry) for entry in entries], indent=1))
        return
    _print_history(model, entries)


def promotion() -> ModuleType:
    """The module, which imports MLflow's client where it is used."""
    from tools import promotion as module  # noqa: PLC0415

    return module


def _print_standing(act: Callable[[], Standing], output: Format) -> None:
    from tools.registry import RegistryError  # noqa: PLC0415

    try:
        standing = act()
    except RegistryError as error:
        raise failed(str(error)) from error
    if output is Format.JSON:
        print(json.dumps(asdict(standing), indent=1))
        return
    verb = "now points" if standing.changed else "already points"
    back = f"a rollback would bring back {standing.previous}" if standing.previous else "there is no version before it"
    print(f"{standing.alias} of {standing.name} {verb} at version {standing.version}; {back}")


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


def _print_history(name: str, entries: Sequence[Entry]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table("", "when", "who", "what")
    for entry in entries:
        what = (
            f"{entry.alias} → {entry.version}"
            if entry.action == "promote"
            else f"{entry.alias} back from {entry.version}"
        )
        table.add_row(str(entry.number), moment(entry.at_ms), entry.by, what)
    Console().print(table if entries else f"no alias of {name} was moved by slipway")


def _evidence(reading: Reading | None, version: RegisteredVersion) -> str:
    """A line on a version's evidence."""
    if reading is None:
        return f"evidence: none; `slipway models evaluate {version.name}/{version.version}` records some"
    if reading.tampered:
        return f"evidence: not what was sealed: {reading.tampered}"
    at = reading.document.get("evaluatedAt")
    other = "" if reading.document.get("digest") == version.digest else ", of ANOTHER artifact"
    return f"evidence: of {at}{other}, signed by {reading.signer or 'NOBODY: the signature does not verify'}"


def _plain(version: RegisteredVersion) -> dict[str, object]:
    return {**asdict(version), "uri": version.uri}


def _date(version: RegisteredVersion) -> str:
    return moment(version.created_ms)
