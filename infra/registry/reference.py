"""References to registered models, and what they resolve to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infra.evidence.seal import Reading

SCHEME = "models:/"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """`models:/<name>/<version>` or `models:/<name>@<alias>`: exactly one of version and alias is set."""

    name: str
    version: str | None = None
    alias: str | None = None

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}" + (f"/{self.version}" if self.version else f"@{self.alias}")


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """What a reference stands for now."""

    reference: str
    """As the stack file says it."""
    name: str
    version: str
    digest: str
    """`services.contract.artifact_digest` of the artifact."""
    evidence: Reading | None = None
    """What was measured when the version was evaluated; None where it never was."""

    @property
    def uri(self) -> str:
        """The pinned form, which no later alias can move."""
        return f"{SCHEME}{self.name}/{self.version}"

    @property
    def pinned(self) -> bool:
        """Whether the stack file names the version itself, and no alias that can move."""
        return self.reference == self.uri

    def plain(self) -> dict[str, Any]:
        """All of it as components of every kind tell it, for previews and policies."""
        return {
            "reference": self.reference,
            "pinned": self.pinned,
            "uri": self.uri,
            "version": self.version,
            "digest": self.digest,
            "evidence": None if self.evidence is None else self.evidence.plain(),
        }


def parse_reference(text: str) -> Reference:
    """Splits a reference that the configuration has accepted."""
    rest = text.removeprefix(SCHEME)
    if "@" in rest:
        name, _, alias = rest.rpartition("@")
        return Reference(name=name, alias=alias)
    name, _, version = rest.rpartition("/")
    return Reference(name=name, version=version)
