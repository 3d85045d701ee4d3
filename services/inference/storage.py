"""KServe's storage initializer: `python -m services.inference.storage URI DIRECTORY` brings an artifact there.

KServe runs it before the service, which finds the files where KServe's runtimes look for them (`contract.MODEL_MOUNT`)
and holds them to the release's digest like those of any other source.

1. what an earlier try left in the directory is removed
2. the artifact is fetched, and held to the digest that the registry has for it
3. its files move to where they belong: complete or absent, never half

Where 2 fails the exit code is 1, and the last line on standard error says why: Kubernetes shows it as the pod's reason.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from services.inference.core.errors import LoadError
from services.inference.logs import configure_logs
from services.inference.runtimes.sources.fetch import Origin, fetch
from services.inference.settings import SourceSettings, prepare_process

WORK = ".fetching"
"""Folder below the directory, which alone is writable; renaming within it moves no bytes."""


def bring(origin: Origin, directory: Path) -> str:
    """Put the artifact's files into the directory and return their digest. Errors are `LoadError`."""
    for left in directory.iterdir():  # 1
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    work = directory / WORK
    prepare_process(work)
    artifact = fetch(origin, work)  # 2
    for entry in artifact.directory.iterdir():  # 3
        entry.rename(directory / entry.name)
    shutil.rmtree(work)
    return artifact.digest


def main() -> int:
    """Run as KServe does; the result is the process's exit code."""
    if len(sys.argv) != 3:  # noqa: PLR2004  # program, URI, directory
        print("usage: python -m services.inference.storage URI DIRECTORY", file=sys.stderr)
        return 2
    uri, directory = sys.argv[1], Path(sys.argv[2])
    settings = SourceSettings()
    configure_logs("info")
    origin = Origin(uri=uri, tracking_uri=settings.mlflow_tracking_uri, s3_endpoint_url=settings.s3_endpoint_url)
    try:
        bring(origin, directory)
    except (LoadError, OSError) as error:
        print(f"slipway: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
