"""A directory on this machine, as a mounted volume has it."""

from __future__ import annotations

import shutil
from pathlib import Path

from services.inference.core.errors import FetchFailed
from services.inference.runtimes.sources.base import Located, not_found


class DirectorySource:
    """Copied, not read in place: what is verified must be what is read, whatever writes to the directory later."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._root = Path(uri.removeprefix("file://"))

    def locate(self) -> Located:
        """Check that the directory is there."""
        if not self._root.is_dir():
            raise not_found(self._uri, "no such directory")
        return Located(uri=self._uri)

    def download(self, located: Located, into: Path) -> None:
        """Copy the files; a symbolic link is refused, it could point anywhere."""
        for path in sorted(self._root.rglob("*")):
            if path.is_symlink():
                raise FetchFailed(
                    f"model {located.uri}: {path.name} is a symbolic link",
                    "an artifact holds plain files only",
                    "replace it by the file",
                )
            if path.is_file():
                target = into / path.relative_to(self._root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
