"""Taking a backup of a registry, and bringing one back."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tools.backup.manifest import DATABASE, KEY, Content, Manifest, decoded
from tools.steps import StepError

if TYPE_CHECKING:
    from tools.backup.places import Place
    from tools.backup.registry import Registry
    from tools.steps import Steps


def backup(registry: Registry, to: Place, steps: Steps) -> Manifest:
    """Copy a registry that runs.

    1. the database first: what it names was uploaded before it was named
    2. every artifact, the same bytes once
    3. the manifest, without which the place holds no backup
    """
    if to.has(KEY):
        raise StepError(f"{to.uri}: holds a backup → one is never overwritten → name another place")
    taken = datetime.now(UTC).isoformat(timespec="seconds")
    artifacts: dict[str, Content] = {}
    kept: set[Content] = set()
    with tempfile.TemporaryDirectory(prefix="slipway-backup-") as directory:
        scratch = Path(directory, "file")
        with steps.step("database"):
            database = registry.database.snapshot(scratch)  # 1
            to.put(DATABASE, scratch)
        with steps.step("artifacts"):
            for key in registry.artifacts.files():
                file = registry.artifacts.fetch(key, scratch)
                content = Content.of(file)
                if content not in kept:
                    to.put(content.key, file)  # 2
                    kept.add(content)
                artifacts[key] = content
        manifest = Manifest(taken=taken, database=database, artifacts=artifacts)
        scratch.write_text(manifest.encoded())
        to.put(KEY, scratch)  # 3
    return manifest


def restore(registry: Registry, source: Place, steps: Steps, *, discard_newer: bool) -> Manifest:
    """Bring a backup back; artifacts that it does not know stay where they are.

    1. every file of it has its digest, or nothing is written
    2. the server rests, so that what is looked at is what is replaced
    3. what was recorded after the backup is refused to be lost
    4. artifacts, then the database that names them
    """
    with tempfile.TemporaryDirectory(prefix="slipway-restore-") as directory:
        scratch = Path(directory, "file")
        manifest = _manifest(source, scratch)
        with steps.step("verify"):
            database = _verified(source, DATABASE, manifest.database.content, Path(directory, DATABASE))
            for content in set(manifest.artifacts.values()):
                _verified(source, content.key, content, scratch)  # 1
        with steps.step("restore"), registry.resting() as resting:  # 2
            if not discard_newer:
                _refuse_newer(resting.changed(), manifest)  # 3
            for key, content in manifest.artifacts.items():
                registry.artifacts.put(key, source.fetch(content.key, scratch))
            resting.replace(database, manifest.database.content)  # 4
    return manifest


def _manifest(source: Place, scratch: Path) -> Manifest:
    if not source.has(KEY):
        raise StepError(f"{source.uri}: has no {KEY} → a backup that ended has one → name the place of such a one")
    return decoded(source.fetch(KEY, scratch).read_text(), source.uri)


def _verified(source: Place, key: str, content: Content, scratch: Path) -> Path:
    file = source.fetch(key, scratch)
    found = Content.of(file)
    if found != content:
        raise StepError(
            f"{source.uri}/{key}: {found.size} bytes of sha256:{found.digest} → its manifest says {content.size} of "
            f"sha256:{content.digest} → nothing was written; restore from another backup"
        )
    return file


def _refuse_newer(changed: int | None, manifest: Manifest) -> None:
    if changed is not None and changed > (manifest.database.changed or 0):
        raise StepError(
            f"the registry recorded something at {_moment(changed)}, the backup's last is of "
            f"{_moment(manifest.database.changed)} → a restore would lose that → keep it by `slipway registry backup`, "
            "then restore with --discard-newer"
        )


def _moment(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "never"
    return datetime.fromtimestamp(milliseconds / 1e3, tz=UTC).isoformat(timespec="milliseconds")
