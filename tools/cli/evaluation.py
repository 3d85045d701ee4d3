"""`slipway models evaluate|signer`: what a version can do, measured and signed."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tools import environment
from tools.cli.registry import Format, Output, TrackingUri, failed, reachable
from tools.steps import StepError, Steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.evidence.checklist import Verdict
    from tools.evaluation.evaluate import Evidence, Plan
    from tools.registry import RegisteredVersion

Reference = Annotated[str, typer.Argument(metavar="NAME[/VERSION|@ALIAS]", help="The newest version by default.")]
Stack = Annotated[str, typer.Option("-s", "--stack", help="Whose bounds and registry count.")]


def evaluate(  # a command's options
    model: Reference,
    stack: Stack = environment.STACK,
    data: Annotated[Path | None, typer.Option(help="Holdout, CSV or Parquet, instead of the artifact's own.")] = None,
    target: Annotated[str | None, typer.Option(help="Column of it that holds the labels.")] = None,
    task: Annotated[str | None, typer.Option(help="What the model answers, where the artifact does not say.")] = None,
    p99_ms: Annotated[float | None, typer.Option(min=0, help="Bound of p99, instead of the stack's slo.p99Ms.")] = None,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second at which latency is measured.")] = 50,
    seconds: Annotated[float, typer.Option(min=1, help="For how long it is.")] = 10,
    connections: Annotated[int, typer.Option(min=1, max=256, help="Of the load test.")] = 8,
    load_seconds: Annotated[float, typer.Option(min=1, help="How long that takes.")] = 5,
    tracking_uri: TrackingUri = None,
    output: Output = Format.TABLE,
) -> None:
    """Fill the pre-deployment checklist of a version, sign it, record it in the registry. Code 1: an item fails."""
    uri = reachable(tracking_uri or environment.registry_url(stack))
    from services.inference.core.schema import Task  # noqa: PLC0415
    from tools.evaluation.evaluate import Plan  # noqa: PLC0415
    from tools.evaluation.record import record  # noqa: PLC0415
    from tools.evaluation.stack import demands  # noqa: PLC0415

    if task is not None and task not in set(Task):
        raise StepError(f"--task {task} → what a result can mean → one of: {', '.join(Task)}")
    version = found(uri, model)
    demanded = demands(environment.stack_config(stack), version.name, version.version, version.aliases)
    plan = Plan(
        bounds=demanded.bounds if p99_ms is None else replace(demanded.bounds, p99_ms=p99_ms),
        data=data,
        target=target,
        task=None if task is None else Task(task),
        rate=rate,
        latency_seconds=seconds,
        connections=connections,
        load_seconds=load_seconds,
        settings=demanded.settings,
    )
    evidence = measured(uri, version, plan)
    record(uri, evidence)
    if output is Format.JSON:
        print(json.dumps(evidence.document, indent=1))
    else:
        print_verdicts(f"{version.uri} {version.digest[:19]}", evidence.verdicts)
    if not evidence.passed:
        raise typer.Exit(1)


def signer() -> None:
    """Print the public key that this user's evaluations are signed with; the key is made where there is none."""
    from infra.evidence.seal import public_key  # noqa: PLC0415
    from tools.evaluation.signer import signing_key  # noqa: PLC0415

    print(public_key(signing_key()))


def measured(uri: str, version: RegisteredVersion, plan: Plan) -> Evidence:
    """Evaluate, with the progress on standard error."""
    from tools.evaluation.evaluate import evaluate as run  # noqa: PLC0415

    return run(uri, version, plan, Steps())


def found(uri: str, model: str) -> RegisteredVersion:
    """The version that a reference on the command line means."""
    from tools.registry import RegistryError, find_version  # noqa: PLC0415

    try:
        return find_version(uri, model)
    except RegistryError as error:
        raise failed(str(error)) from error


def print_verdicts(title: str, verdicts: Sequence[Verdict]) -> None:
    """A checklist as a table, with what to do below it."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table("", "item", "found", "bound", title=title, title_justify="left")
    for verdict in verdicts:
        mark = "[green]pass[/]" if verdict.passed else "[red]FAIL[/]"
        table.add_row(mark, verdict.item, verdict.shown, verdict.bound)
    console = Console()
    console.print(table)
    for verdict in verdicts:
        if not verdict.passed:
            console.print(f"{verdict.item} → {verdict.remedy}", highlight=False, soft_wrap=True)


def plain(verdicts: Sequence[Verdict]) -> list[dict[str, object]]:
    """A checklist as JSON has it."""
    return [asdict(verdict) for verdict in verdicts]
