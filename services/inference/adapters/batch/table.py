"""A table that appears all at once, whatever happens to the jobs that write it.

Below the output's address:

    _manifest.json                       the table: its parts with their digests; readers go by it alone
    _parts/<job>/job.json                when the job began, the first run's for all runs of it
    _parts/<job>/part-00000.json         what came of a part, the first run's for all
    _parts/<job>/part-00000-<sha>.parquet, quarantine-00000-<sha>.parquet

A job is what it would write: model, input, columns. Its protocol:

1. the manifest is read, with its tag; where it is this job's there is nothing to do
2. `job.json` is written unless it is there: runs of one job share its timestamp, and so their bytes
3. each part is written under the digest of its content, then its record, unless that is there
4. the manifest is written, on the condition that it still has the tag of step 1: this is the commit
5. what the manifest does not name is removed, whoever wrote it

A part that two runs write is two objects or the same one, never a mixture; the record says which of them counts.
A run that ends between two steps leaves what the next one goes on from, or step 5 removes.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from services.inference.adapters.batch.errors import Overtaken
from services.inference.adapters.batch.inputs import FORMAT, MANIFEST, parse_manifest
from services.inference.adapters.batch.stores import ABSENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from services.inference.adapters.batch.stores import Store

PARTS = "_parts/"

SHOWN_DIGITS = 16
"""Of a digest in a name: enough for as many objects as any table has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRecord:
    """What came of a part."""

    number: int
    key: str | None
    """Where its rows are; None where none could be scored."""
    rows: int
    bytes: int
    sha256: str
    refused: int = 0
    """Rows in its quarantine table."""
    quarantine: str | None = None
    quarantine_sha256: str = ""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Refused rows by the error's code."""
    first_reason: str = ""
    """The first refused row and why, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job that has begun."""

    id: str
    token: str
    """Another one where the job's folder was made anew: what is remembered elsewhere is then void."""
    timestamp: datetime
    """When its first run began, UTC."""
    manifest_tag: str
    """Of the manifest that the commit replaces."""

    @property
    def folder(self) -> str:
        """Where its parts are."""
        return f"{PARTS}{self.id}/"


def job_id(identity: Mapping[str, Any]) -> str:
    """Name of the job that is described."""
    text = json.dumps({"format": FORMAT, **identity}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:SHOWN_DIGITS]


def read_manifest(store: Store) -> tuple[dict[str, Any], str]:
    """The committed table and its tag; empty and `ABSENT` before the first commit."""
    content, tag = store.get(MANIFEST)
    if not content:
        return {}, ABSENT
    return parse_manifest(content, store.uri), tag


def begin(store: Store, identity: str, manifest_tag: str, now: datetime) -> Job:
    """Step 2."""
    key = f"{PARTS}{identity}/job.json"
    fresh = {"timestamp": now.astimezone(UTC).isoformat(), "token": secrets.token_hex(8)}
    store.put(key, json.dumps(fresh).encode(), expected=ABSENT)
    told = json.loads(store.get(key)[0] or json.dumps(fresh))  # gone again where another run has just committed
    return Job(
        id=identity,
        token=told["token"],
        timestamp=datetime.fromisoformat(told["timestamp"]),
        manifest_tag=manifest_tag,
    )


def records(store: Store, job: Job) -> dict[int, PartRecord]:
    """Parts that earlier runs have finished and whose objects are there."""
    keys = {entry.key for entry in store.list(job.folder)}
    found = {}
    for key in sorted(keys):
        if key.startswith(f"{job.folder}part-") and key.endswith(".json"):
            record = _read_record(store, key)
            if record is not None and {record.key, record.quarantine} - {None} <= keys:
                found[record.number] = record
    return found


def keep(store: Store, job: Job, record: PartRecord) -> PartRecord:
    """Step 3's record: this one, or that of the run that was first."""
    key = f"{job.folder}part-{record.number:05}.json"
    if store.put(key, json.dumps(asdict(record)).encode(), expected=ABSENT):
        return record
    return _read_record(store, key) or record


def _read_record(store: Store, key: str) -> PartRecord | None:
    content, _ = store.get(key)
    return PartRecord(**json.loads(content)) if content else None


def place(store: Store, job: Job, path: Path, name: str) -> tuple[str, str]:
    """Step 3's object: key and SHA-256 of a file that was written, which is moved there."""
    with path.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    key = f"{job.folder}{name}-{sha256[:SHOWN_DIGITS]}.parquet"
    store.take(path, key)
    return key, sha256


def commit(store: Store, job: Job, done: Sequence[PartRecord], described: Mapping[str, Any]) -> dict[str, Any]:
    """Steps 4 and 5; the manifest. `Overtaken` where another job was first, or parts are gone."""
    there = {entry.key for entry in store.list(job.folder)}
    manifest = _manifest(job, done, described)
    named = [part["key"] for part in (*manifest["parts"], *manifest["quarantine"])]
    missing = [key for key in named if key not in there]
    if missing or not store.put(MANIFEST, json.dumps(manifest, indent=1).encode() + b"\n", expected=job.manifest_tag):
        committed, _ = read_manifest(store)
        sweep(store, committed)
        if committed.get("job") != job.id:
            what = f"part {missing[0]} is gone" if missing else f"job {committed.get('job')} committed meanwhile"
            raise Overtaken(f"{store.uri}: {what}", "one job at a time replaces a table", "run it again")
        return committed
    sweep(store, manifest)
    return manifest


def sweep(store: Store, manifest: Mapping[str, Any]) -> int:
    """Step 5: how many objects were removed. Only what the manifest names stays."""
    named = {part["key"] for part in (*manifest.get("parts", ()), *manifest.get("quarantine", ()))}
    stray = [entry.key for entry in store.list(PARTS) if entry.key not in named]
    for key in stray:
        store.delete(key)
    return len(stray)


def abandon(store: Store, job: Job) -> None:
    """Remove what a job has written that must not be committed."""
    for entry in store.list(job.folder):
        store.delete(entry.key)


def _manifest(job: Job, done: Sequence[PartRecord], described: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "job": job.id,
        "timestamp": job.timestamp.isoformat(),
        **described,
        "rows": sum(record.rows for record in done),
        "refused": sum(record.refused for record in done),
        "parts": [
            {"key": record.key, "rows": record.rows, "bytes": record.bytes, "sha256": record.sha256}
            for record in done
            if record.key is not None
        ],
        "quarantine": [
            {"key": record.quarantine, "rows": record.refused, "sha256": record.quarantine_sha256}
            for record in done
            if record.quarantine is not None
        ],
    }
