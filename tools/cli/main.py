"""The `slipway` command."""

from __future__ import annotations

import sys

import typer

from tools.cli import (
    backup,
    batch,
    checklist,
    cluster,
    doctor,
    images,
    models,
    previews,
    rollout,
    stack,
    stream,
    toolchain,
    ui,
)
from tools.steps import StepError

app = typer.Typer(
    name="slipway",
    help="Model deployment as Pulumi Python.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command(name="preview-comment")(previews.preview_comment)
for command in (
    stack.up,
    stack.down,
    stack.env,
    stack.endpoints,
    stack.predict,
    checklist.checklist,
    ui.ui,
    doctor.init,
    doctor.doctor,
):
    app.command()(command)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(stack.pulumi)
app.add_typer(batch.app, name="batch")
app.add_typer(cluster.app, name="cluster")
app.add_typer(images.app, name="images")
app.add_typer(models.app, name="models")
app.add_typer(backup.app, name="registry")
app.add_typer(rollout.app, name="rollout")
app.add_typer(stream.app, name="stream")
app.add_typer(toolchain.app, name="toolchain")


def main() -> None:
    """Run the command; an error that says what to do is shown as it is, without a stack trace."""
    try:
        app()
    except StepError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
