"""`slipway preview-comment`: a preview for people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tools.previews.comment import comment
from tools.previews.plan import read
from tools.steps import StepError


def preview_comment(
    preview: Annotated[Path, typer.Argument(help="What `pulumi preview --json --show-sames` printed.")],
) -> None:
    """Print what an update would do as Markdown: traffic, releases, GPUs, cost, verdicts, replacements."""
    try:
        text = preview.read_text()
    except OSError as error:
        raise StepError(f"{preview}: {error.strerror} → a file with a preview → `pulumi preview --json`") from error
    print(comment(read(text)), end="")
