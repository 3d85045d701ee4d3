"""`slipway ui`: the status page."""

from __future__ import annotations

from typing import Annotated

import typer

from tools import environment
from tools.cli.stack import Cluster, Context, Stack
from tools.cluster import layout as names
from tools.steps import StepError


def ui(
    stack: Stack = environment.STACK,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1.")] = 8090,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 10.0,
    cluster: Cluster = names.DEFAULT_NAME,
    context: Context = None,
) -> None:
    """Serve a page with models, releases, traffic, health and checklists; it reads only. Ctrl-C ends it."""
    from tools.ui.server import HOST, Watcher, serving  # noqa: PLC0415  # half a second
    from tools.ui.status import gather  # noqa: PLC0415

    found = environment.resolve(context, cluster)
    environment.stack_config(stack)  # it exists
    watcher = Watcher(lambda: gather(found, stack), every)
    try:
        with serving(watcher, port) as server:
            watcher.start()
            print(f"stack {stack}: http://{HOST}:{server.server_address[1]}/  (Ctrl-C ends it)", flush=True)
            server.serve_forever()
    except OSError as error:
        raise StepError(f"--port {port}: {error} → a free port → choose another") from error
