"""`slipway checklist`: what a release has shown before, and what is seen of it now."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from tools import environment
from tools.cli.evaluation import print_verdicts
from tools.cli.stack import Cluster, Context, Stack
from tools.cluster import layout as names


class Format(StrEnum):
    """How the lists are printed."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


def checklist(
    model: str,
    stack: Stack = environment.STACK,
    output: Annotated[Format, typer.Option("-o", "--output", help="How to print them.")] = Format.TABLE,
    cluster: Cluster = names.DEFAULT_NAME,
    context: Context = None,
) -> None:
    """Print the pre- and post-deployment checklists of a model. Code 1: a line does not hold."""
    from tools.checklist import checklist as look  # noqa: PLC0415  # half a second

    found = environment.resolve(context, cluster)
    seen = look(found, environment.stack_config(stack), environment.registry_url(stack), stack, model)
    if output is Format.JSON:
        print(seen.as_json())
    elif output is Format.MARKDOWN:
        print(seen.as_markdown())
    else:
        print_verdicts(f"{model} in {stack}: pre-deployment", seen.before)
        print_verdicts(f"{model} in {stack}: post-deployment", seen.after)
    if not seen.passed:
        raise typer.Exit(1)
