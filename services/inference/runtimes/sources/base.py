"""What a source is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from services.inference.core.errors import FetchFailed

if TYPE_CHECKING:
    from pathlib import Path


class TransientError(Exception):
    """Worth another try: the network, a server that restarts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """An artifact found, not yet brought here."""

    uri: str
    version: str | None = None
    """The registry's version; None where the source has none."""
    digest: str | None = None
    """What the registry says of the artifact: it is held to it, but a registry's word lets no pickle in."""


class Source(Protocol):
    """One kind of place. Both methods raise `TransientError` or `FetchFailed`."""

    def locate(self) -> Located:
        """Resolve names and aliases to one immutable artifact."""

    def download(self, located: Located, into: Path) -> None:
        """Bring every file of the artifact into an empty directory, as plain files."""


def not_found(uri: str, cause: str) -> FetchFailed:
    """The error for an artifact that is not there."""
    return FetchFailed(
        f"model {uri}: {cause}", "the artifact is there before a release names it", "correct the model's URI"
    )
