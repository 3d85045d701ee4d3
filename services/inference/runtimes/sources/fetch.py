"""Bring an artifact to the cache, verified, once per machine.

1. locate it: names and aliases become one place (retried with back-off)
2. with a digest: where the cache holds it and it still matches, use it
3. take the lock of this artifact, so that processes sharing the cache download once; look again
4. download into a directory of our own (retried, from scratch each time)
5. compute the digest; a mismatch ends here, before anything is deserialised
6. rename into place: complete or absent, never half
"""

from __future__ import annotations

import fcntl
import hashlib
import random
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from services.contract import directory_digest
from services.inference.core.errors import DigestMismatch, FetchFailed
from services.inference.core.runtime import Artifact
from services.inference.runtimes.sources.base import Located, Source, TransientError
from services.inference.runtimes.sources.directory import DirectorySource
from services.inference.runtimes.sources.registry import RegistrySource
from services.inference.runtimes.sources.s3 import S3Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
_log = structlog.stdlib.get_logger("slipway.sources")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What to fetch and how to reach it."""

    uri: str
    digest: str | None = None
    version: str | None = None
    tracking_uri: str | None = None
    s3_endpoint_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Retries of a transient error: 0.5, 1, 2, 4 s with jitter, 7.5 s in all: a registry's restart."""

    attempts: int = 5
    first_seconds: float = 0.5
    wait: Callable[[float], None] = time.sleep


def fetch(origin: Origin, cache: Path, backoff: Backoff | None = None) -> Artifact:
    """Return the artifact's directory in the cache. Errors: `FetchFailed`, `DigestMismatch`."""
    backoff = backoff or Backoff()
    source = _source(origin)
    located = locate(origin, backoff)  # 1
    root = cache / "artifacts"
    root.mkdir(parents=True, exist_ok=True)
    expected = origin.digest or located.digest
    digest = _cached(root, expected)  # 2
    if digest is None:
        with _locked(root, expected or located.uri):  # 3
            digest = _cached(root, expected) or _download(source, located, origin, root, backoff)
    return Artifact(
        directory=_place(root, digest),
        digest=digest,
        verified=origin.digest is not None,
        version=origin.version or located.version or digest.removeprefix("sha256:")[:12],
    )


def locate(origin: Origin, backoff: Backoff | None = None) -> Located:
    """Where the artifact is now: an alias may point elsewhere than before. Errors: `FetchFailed`."""
    return _retried(_source(origin).locate, f"locate {origin.uri}", backoff or Backoff())


def _source(origin: Origin) -> Source:
    if origin.uri.startswith("models:"):
        return RegistrySource(origin.uri, origin.tracking_uri, origin.s3_endpoint_url)
    if origin.uri.startswith("s3://"):
        return S3Source(origin.uri, origin.s3_endpoint_url)
    if "://" in origin.uri and not origin.uri.startswith("file://"):
        raise FetchFailed(
            f"model {origin.uri}", "a model is models:/…, s3://… or a directory", "correct the model's URI"
        )
    return DirectorySource(origin.uri)


def _place(root: Path, digest: str) -> Path:
    return root / digest.removeprefix("sha256:")


def _cached(root: Path, digest: str | None) -> str | None:
    """The digest, if the cache holds it intact; what was changed on disk is thrown away."""
    if digest is None or not _place(root, digest).is_dir():
        return None
    if directory_digest(_place(root, digest)) == digest:
        return digest
    _log.warning("cached artifact was changed on disk, fetching it again", digest=digest)
    doomed = Path(tempfile.mkdtemp(prefix="changed-", dir=root))
    _place(root, digest).rename(doomed / "artifact")
    shutil.rmtree(doomed)
    return None


def _download(source: Source, located: Located, origin: Origin, root: Path, backoff: Backoff) -> str:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="download-", dir=root) as scratch:
        files = Path(scratch) / "artifact"

        def attempt() -> None:
            shutil.rmtree(files, ignore_errors=True)
            files.mkdir()
            source.download(located, files)

        _retried(attempt, f"download {located.uri}", backoff)  # 4
        try:
            digest = directory_digest(files)  # 5
        except ValueError as error:
            raise FetchFailed(f"model {origin.uri}: {error}", "an artifact is plain files", "write it again") from error
        expected = origin.digest or located.digest
        if expected is not None and digest != expected:
            who = "the release was made for" if origin.digest else "its version was registered with"
            raise DigestMismatch(
                f"model {origin.uri} has digest {digest}",
                f"{who} {expected}",
                "release the artifact that was evaluated, or evaluate this one and release it",
            )
        if not _place(root, digest).exists():
            files.rename(_place(root, digest))  # 6
    _log.info("artifact fetched", uri=located.uri, digest=digest, seconds=round(time.perf_counter() - started, 3))
    return digest


def _retried(action: Callable[[], T], what: str, backoff: Backoff) -> T:
    for attempt in range(1, backoff.attempts + 1):
        try:
            return action()
        except TransientError as error:
            if attempt == backoff.attempts:
                raise FetchFailed(
                    f"cannot {what}: {error}",
                    f"tried {attempt} times",
                    "see that the server is up and reachable from the pod",
                ) from error
            pause = backoff.first_seconds * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311  # jitter
            _log.warning("trying again", what=what, attempt=attempt, pause_seconds=round(pause, 2), error=str(error))
            backoff.wait(pause)
    raise AssertionError("a back-off has at least one attempt")


@contextmanager
def _locked(root: Path, key: str) -> Iterator[None]:
    """Exclusive among processes; the kernel frees the lock of one that dies."""
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    with (root / f".{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
