"""`slipway images`: the images that a stack deploys."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tools import environment, paths
from tools.cli.cluster import Name
from tools.cluster import layout as names
from tools.cluster import lifecycle
from tools.images import build as builder
from tools.images import load
from tools.steps import Steps
from tools.toolchain import build as toolchain
from tools.toolchain.recipes import Group

app = typer.Typer(help="Build the container images and bring them into the cluster.", no_args_is_help=True)


@app.command("build")
def build_command(
    base: Annotated[
        str | None,
        typer.Option(envvar="SLIPWAY_BASE_IMAGE", help="Python base image; by default one made of Debian's packages."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this image; may be given again.")] = None,
) -> None:
    """Build what is not in the cache yet and write build/images.json, which the stack deploys from."""
    steps = Steps(record=paths.BUILD / "steps.json")
    groups = {Group.IMAGES, *environment.addon_groups()}
    toolchain.ensure(groups, steps)
    print(json.dumps(builder.build(steps, groups, base=base, only=set(only or ())), indent=2))


@app.command("prune")
def prune_command(
    days: Annotated[float, typer.Option(min=0, help="Keep what a build has asked for in so many days.")] = 7.0,
) -> None:
    """Delete built images that are not used any more from the cache. Clusters have copies of their own."""
    print(f"{builder.prune(days) / 1e9:.1f} GB less")


@app.command("load")
def load_command(name: Name = names.DEFAULT_NAME) -> None:
    """Bring the built images into the embedded cluster, only the layers it lacks."""
    references = list(json.loads(builder.RECORD.read_text()).values())
    load.into_embedded(lifecycle.load(name), references, Steps())
