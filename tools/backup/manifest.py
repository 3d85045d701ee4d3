"""What a backup holds, as its `manifest.json` says it. Written last: a place without one holds no backup."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tools.steps import StepError

if TYPE_CHECKING:
    from pathlib import Path

KEY = "manifest.json"
DATABASE = "mlflow.db"


@dataclass(frozen=True, kw_only=True)
class Content:
    """Bytes by what they are."""

    digest: str
    """SHA-256, in hexadecimal."""
    size: int
    """Bytes."""

    @classmethod
    def of(cls, path: Path) -> Content:
        """Of a file."""
        with path.open("rb") as file:
            return cls(digest=hashlib.file_digest(file, "sha256").hexdigest(), size=path.stat().st_size)

    @property
    def key(self) -> str:
        """Where a backup has an artifact's file: the same bytes once."""
        return f"artifacts/{self.digest}"


@dataclass(frozen=True, kw_only=True)
class Database:
    """MLflow's database as of one moment."""

    content: Content
    changed: int | None
    """When somebody's work was last recorded in it, in milliseconds since the epoch; None: never."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A backup."""

    taken: str
    """When, in ISO 8601."""
    database: Database
    artifacts: dict[str, Content]
    """By key below the registry's artifacts."""

    @property
    def size(self) -> int:
        """Bytes of all artifacts."""
        return sum(each.size for each in self.artifacts.values())

    def encoded(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=1) + "\n"


def decoded(text: str, where: str) -> Manifest:
    """The manifest that `where` has; `StepError` where it is none."""
    try:
        plain: dict[str, Any] = json.loads(text)
        database = plain["database"]
        return Manifest(
            taken=plain["taken"],
            database=Database(content=Content(**database["content"]), changed=database["changed"]),
            artifacts={key: Content(**each) for key, each in plain["artifacts"].items()},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StepError(
            f"{where}/{KEY}: {error!r} → `slipway registry backup` writes it → restore from another backup"
        ) from error
