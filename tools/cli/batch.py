"""`slipway batch`: score tables by hand, with the process that a BatchModel's schedule starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.registry.reference import SCHEME, parse_reference
from services.contract import Env
from tools import batch
from tools.cli.registry import Format, Output, TrackingUri, reachable
from tools.steps import StepError

app = typer.Typer(name="batch", help="Score tables of parquet.", no_args_is_help=True)


@app.callback()
def commands() -> None:
    """Score tables of parquet."""


class Engine(StrEnum):
    """What scores."""

    LOCAL = "local"
    RAY = "ray"


DAYS = ["%Y-%m-%d"]


@app.command()
def run(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="Parquet: a directory, file or glob, s3:// or disk.")],
    output: Annotated[str, typer.Argument(help="Where the table appears: a directory or s3://bucket/prefix.")],
    model: Annotated[str, typer.Option(help="models:/name/version, models:/name@alias, s3://… or a directory.")],
    name: Annotated[str | None, typer.Option(help="Name of a model that is none of the registry.")] = None,
    digest: Annotated[str | None, typer.Option(help="Digest that the artifact must have, sha256:….")] = None,
    day: Annotated[datetime | None, typer.Option("--date", formats=DAYS, help="The day of a run.")] = None,
    first: Annotated[datetime | None, typer.Option("--from", formats=DAYS, help="First day of a backfill.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=DAYS, help="Its last day.")] = None,
    passthrough: Annotated[str | None, typer.Option(help="Input columns to keep, with commas; - for none.")] = None,
    quarantine_share: Annotated[float, typer.Option(help="Share of the rows that may be refused.")] = 0.0,
    part_rows: Annotated[int | None, typer.Option(help="Rows of a part at least.")] = None,
    engine: Annotated[Engine, typer.Option(help="This process, or a Ray cluster on this machine.")] = Engine.LOCAL,
    workers: Annotated[int | None, typer.Option(help="Processes with the model, where the engine is ray.")] = None,
    tracking_uri: TrackingUri = None,
    printed: Output = Format.TABLE,
) -> None:
    """Score INPUT into OUTPUT. `{date}` in both is the day of --date, or each from --from to --to.

    The same command again does nothing, or goes on where it was interrupted. Exit codes: docs/batch.md.
    """
    chosen = _days(day, first, last)
    batch.check_dated((source, output), chosen)
    settings: dict[str, str] = {
        Env.MODEL_NAME: name or _name(model),
        Env.MODEL_URI: model,
        Env.BATCH_INPUT: source,
        Env.BATCH_OUTPUT: output,
        Env.BATCH_QUARANTINE_SHARE: str(quarantine_share),
        Env.BATCH_ENGINE: engine.value,
    }
    optional = {
        Env.MODEL_DIGEST: digest,
        Env.BATCH_PASSTHROUGH: passthrough,
        Env.BATCH_PART_ROWS: part_rows,
        Env.BATCH_WORKERS: workers,
        Env.MLFLOW_TRACKING_URI: reachable(tracking_uri) if model.startswith(SCHEME) else None,
    }
    settings |= {variable: str(value) for variable, value in optional.items() if value is not None}
    runs = []
    for done in batch.run(settings, chosen):
        runs.append(done)
        if printed is Format.TABLE and done.summary is not None:
            print(_told(done.summary), flush=True)
    if printed is Format.JSON:
        plain = [
            {"day": str(each.day) if each.day else None, "code": each.code, "summary": each.summary} for each in runs
        ]
        print(json.dumps(plain if chosen else plain[0], indent=1))
    failed = [each for each in runs if each.code]
    if failed:
        raise typer.Exit(failed[0].code)


def _days(day: datetime | None, first: datetime | None, last: datetime | None) -> list[date]:
    if day is not None and (first or last):
        raise StepError("--date and --from: both given → one day, or a span → drop one")
    if (first is None) != (last is None):
        given, missing = ("--from", "--to") if last is None else ("--to", "--from")
        raise StepError(f"{given}: without {missing} → a span has two ends → add it, or use --date")
    if first is not None and last is not None:
        return batch.days(first.date(), last.date())
    return [] if day is None else [day.date()]


def _name(model: str) -> str:
    """Name of a model by its reference, or by the last folder of its address."""
    return parse_reference(model).name if model.startswith(SCHEME) else Path(model.rstrip("/")).name


def _told(summary: Mapping[str, Any]) -> str:
    if not summary["made"]:
        return f"{summary['output']}: there already, nothing to do"
    return (
        f"{summary['output']}: {summary['rows']:,} rows in {summary['parts']} parts, {summary['refused']:,} refused, "
        f"{summary['rowsPerSecond']:,} rows/s"
    )
