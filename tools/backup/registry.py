"""A stack's registry as a backup sees it: artifacts, and a database behind a program that runs where it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from tools.backup.manifest import Content, Database
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from tools.backup.places import Place

SCRIPT = Path(__file__).with_name("database.py")


class Registry(Protocol):
    """What is kept, and brought back."""

    @property
    def artifacts(self) -> Place:
        """Files of runs and models."""

    @property
    def database(self) -> DatabaseFile:
        """Of the server that runs."""

    def resting(self) -> AbstractContextManager[DatabaseFile]:
        """The database, that nobody else has until the block ends; then the server runs again, whatever happened."""


class DatabaseFile:
    """The database, by way of a command that runs Python where it is."""

    def __init__(self, python: Sequence[str]) -> None:
        self._command = [*python, "-c", SCRIPT.read_text()]

    def snapshot(self, path: Path) -> Database:
        """Make a consistent copy at `path`."""
        with tempfile.TemporaryFile() as received:
            self._run("snapshot", output=received)
            received.seek(0)
            described = json.loads(received.readline())
            with path.open("wb") as file:
                shutil.copyfileobj(received, file)
        content = Content(digest=described["digest"], size=described["size"])
        if Content.of(path) != content:
            raise StepError("MLflow's database: not all of it came → its digest is that of the copy → run it again")
        return Database(content=content, changed=described["changed"])

    def changed(self) -> int | None:
        """When somebody's work was last recorded, in milliseconds since the epoch; None: never."""
        with tempfile.TemporaryFile() as received:
            self._run("changed", output=received)
            received.seek(0)
            found: int | None = json.load(received)
        return found

    def replace(self, path: Path, content: Content) -> None:
        """Put the one at `path` in its place."""
        with path.open("rb") as file:
            self._run("replace", content.digest, str(content.size), given=file)

    def _run(self, *arguments: str, output: IO[bytes] | None = None, given: IO[bytes] | None = None) -> None:
        done = subprocess.run(
            [*self._command, *arguments],
            stdin=given or subprocess.DEVNULL,
            stdout=output or subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=False,
            check=False,
        )
        if done.returncode != 0:
            said = " ".join(done.stderr.decode(errors="replace").split())[-500:]
            raise StepError(f"MLflow's database, {arguments[0]}: {said} → the one that is there was left as it is")
