"""`slipway registry`: MLflow's database and artifacts, kept elsewhere and brought back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tools import environment
from tools.cli.stack import Cluster, Context, Stack
from tools.cluster import layout as names
from tools.steps import StepError, Steps

if TYPE_CHECKING:
    from tools.backup.manifest import Manifest

app = typer.Typer(name="registry", help="Keep a copy of the model registry, and bring it back.", no_args_is_help=True)

PLACE = "A directory, or s3://bucket/prefix by your own credentials."


@app.command()
def backup(
    to: Annotated[str, typer.Argument(metavar="TO", help=PLACE)],
    stack: Stack = environment.STACK,
    cluster: Cluster = names.DEFAULT_NAME,
    context: Context = None,
) -> None:
    """Copy the database and every artifact, while the registry runs."""
    _refuse_others(stack)
    from tools.backup import run  # noqa: PLC0415
    from tools.backup.cluster import registry  # noqa: PLC0415
    from tools.backup.places import place  # noqa: PLC0415

    with registry(environment.resolve(context, cluster)) as found:
        _print(run.backup(found, place(to), Steps()), to)


@app.command()
def restore(
    source: Annotated[str, typer.Argument(metavar="FROM", help=PLACE)],
    discard_newer: Annotated[
        bool, typer.Option("--discard-newer", help="Even where the registry has recorded something since.")
    ] = False,
    stack: Stack = environment.STACK,
    cluster: Cluster = names.DEFAULT_NAME,
    context: Context = None,
) -> None:
    """Put a copy in the registry's place. Models that run go on answering; the registry rests for a minute."""
    _refuse_others(stack)
    from tools.backup import run  # noqa: PLC0415
    from tools.backup.cluster import registry  # noqa: PLC0415
    from tools.backup.places import place  # noqa: PLC0415

    with registry(environment.resolve(context, cluster)) as found:
        _print(run.restore(found, place(source), Steps(), discard_newer=discard_newer), source)


def _refuse_others(stack: str) -> None:
    kind = (environment.stack_config(stack).get("slipway:platform") or {}).get("kind")
    if kind != "local":
        raise StepError(
            f"stack {stack}: its platform is of kind {kind} → these commands are for MLflow on a volume; AWS keeps "
            "backups of the database and versions of objects itself → docs/guides/recovery.md"
        )


def _print(manifest: Manifest, where: str) -> None:
    print(
        f"{where}: taken {manifest.taken}, {len(manifest.artifacts)} artifacts of {manifest.size / 1e6:.1f} MB, "
        f"a database of {manifest.database.content.size / 1e6:.1f} MB"
    )
