"""Runs where MLflow's database is, in MLflow's image, given as text. Standard library only, no import from here.

    snapshot              a consistent copy to standard output, after a line of JSON that says what it is
    changed               when somebody's work was last recorded: milliseconds since the epoch, or null
    replace DIGEST SIZE   standard input becomes the database

`replace` is seen whole or not at all:

    1. the copy is written beside the database and held to its digest
    2. SQLite finds it sound, and this MLflow can read it or bring it to its own version
    3. it takes the database's place
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

SCHEME = "sqlite:///"

CHANGED = """
    select max(at) from (
        select max(max(start_time, coalesce(end_time, 0), coalesce(deleted_time, 0))) as at from runs
        union all select max(last_updated_timestamp_ms) from logged_models
        union all select max(last_updated_time) from registered_models
        union all select max(last_updated_time) from model_versions
        union all select max(last_update_time) from experiments where experiment_id <> 0
    )
"""
"""Without the experiment that a server makes for itself when it starts."""


def location() -> Path:
    """The database's file, as the server is told of it."""
    return Path(os.environ["MLFLOW_BACKEND_STORE_URI"].removeprefix(SCHEME))


def changed(database: Path) -> int | None:
    """None too where the file is gone or no database any more: it holds nothing that could be lost."""
    if not database.exists():
        return None
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            found: int | None = connection.execute(CHANGED).fetchone()[0]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return None
        raise
    return found


def snapshot(database: Path) -> None:
    """SQLite's own copy of a database that others write meanwhile."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, database.name)
        with (
            closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target, sleep=0.01)  # before another try, where a writer has it
        with copy.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            header = {"digest": digest, "size": copy.stat().st_size, "changed": changed(copy)}
            sys.stdout.buffer.write(json.dumps(header).encode() + b"\n")
            file.seek(0)
            shutil.copyfileobj(file, sys.stdout.buffer)


def replace(database: Path, digest: str, size: int) -> None:
    """The steps of the module's docstring."""
    aside = database.with_name("restored.db")
    received = hashlib.sha256()
    with aside.open("wb") as file:
        while file.tell() < size and (block := sys.stdin.buffer.read(min(1 << 20, size - file.tell()))):
            received.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    try:
        if received.hexdigest() != digest:
            raise SystemExit(f"received {received.hexdigest()}, not {digest}")  # 1
        with closing(sqlite3.connect(aside)) as connection:
            (sound,) = connection.execute("pragma integrity_check").fetchone()
        if sound != "ok":
            raise SystemExit(f"SQLite: {sound}")
        upgrade = [sys.executable, "-m", "mlflow", "db", "upgrade", f"{SCHEME}{aside}"]
        done = subprocess.run(upgrade, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"this MLflow cannot read it: {done.stderr.strip().splitlines()[-1]}")  # 2
        for left in ("-journal", "-wal", "-shm"):
            Path(f"{database}{left}").unlink(missing_ok=True)
        aside.replace(database)  # 3
    finally:
        aside.unlink(missing_ok=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["snapshot"]:
            snapshot(location())
        case ["changed"]:
            print(json.dumps(changed(location())))
        case ["replace", digest, size]:
            replace(location(), digest, int(size))
