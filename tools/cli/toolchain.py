"""`slipway toolchain`: the programs that this machine lacks, built from Go modules."""

from __future__ import annotations

from typing import Annotated

import typer

from tools import environment, paths
from tools.bringup import install_programs
from tools.steps import Steps
from tools.toolchain import build
from tools.toolchain.recipes import RECIPES, Group

app = typer.Typer(help="Build the Pulumi engine, Kubernetes and Istio from pinned Go modules.", no_args_is_help=True)


@app.command("build")
def build_command(
    group: Annotated[list[Group] | None, typer.Option(help="Only this part; may be given again.")] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Install missing Debian packages too; needs root.")
    ] = False,
) -> None:
    """Build what is not in the cache yet; goes on where an earlier run was interrupted."""
    steps = Steps(record=paths.BUILD / "steps.json")
    if install:
        install_programs(steps, kafka=True)  # its tests have a broker of their own
    groups = set(group or environment.required_groups(context=None))
    environment.prepare(groups, steps)
    print(build.root() / "bin")


@app.command("status")
def status_command() -> None:
    """Which tools are built, and where."""
    for recipe in RECIPES:
        path = build.artifact(recipe)
        print(f"{recipe.name:22} {recipe.group:8} {path if path.exists() else 'not built'}")
