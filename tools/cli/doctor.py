"""`slipway init` and `slipway doctor`: a stack file to begin with, and what is missing to deploy it."""

from __future__ import annotations

from typing import Annotated

import typer

from tools import environment, paths
from tools.cli.stack import Cluster, Context, Stack
from tools.cluster import layout as names


def init(
    stack: Annotated[str, typer.Argument(help="Name of the stack.")],
    platform: Annotated[str, typer.Option(help="local or aws.")] = "local",
    account: Annotated[str | None, typer.Option(help="AWS account: twelve digits.")] = None,
    region: Annotated[str | None, typer.Option(help="AWS region.")] = None,
    admin: Annotated[str | None, typer.Option(help="ARN of the IAM role that runs `pulumi up`.")] = None,
    host: Annotated[str | None, typer.Option(help="Name at which callers find models.")] = None,
    certificate: Annotated[str | None, typer.Option(help="ARN of its ACM certificate.")] = None,
) -> None:
    """Write a commented stack file; nothing that is there is overwritten."""
    from tools import scaffold  # noqa: PLC0415  # half a second

    said = {
        "stack": stack,
        "account": account,
        "region": region,
        "admin": admin,
        "host": host,
        "certificate": certificate,
    }
    content = scaffold.render(platform, {name: value for name, value in said.items() if value is not None})
    path = scaffold.write(stack, content)
    print(f"{path}\nnow: `slipway pulumi stack init {stack}`, then `slipway doctor --stack {stack}`")


def doctor(stack: Stack = environment.STACK, cluster: Cluster = names.DEFAULT_NAME, context: Context = None) -> None:
    """Check what a stack needs before it is deployed; every check says what it saw. Exit code 1 where one is bad."""
    from tools.doctor import examine  # noqa: PLC0415  # half a second

    variables = environment.resolve(context, cluster).variables
    found = list(examine(environment.stack_config(stack), paths.BUILD, variables, context=context))
    print("\n".join(map(str, found)))
    if any(each.state == "bad" for each in found):
        raise typer.Exit(1)
