"""Backups of a registry: what is refused, before anything is written. What comes back: tests/services/registry."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import threading
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tools.backup import run
from tools.backup.cluster import restorer
from tools.backup.manifest import DATABASE, KEY, decoded
from tools.backup.places import Directory, place
from tools.backup.registry import DatabaseFile
from tools.cli.backup import app
from tools.paths import PROJECT
from tools.steps import StepError, Steps

TABLES = {
    "runs": "start_time, end_time, deleted_time",
    "logged_models": "last_updated_timestamp_ms",
    "registered_models": "name, last_updated_time",
    "model_versions": "name, last_updated_time",
    "experiments": "experiment_id, last_update_time",
}
"""Of MLflow's, what is asked of its database."""


class Registry:
    """Files of this machine, and a server that is none."""

    def __init__(self, directory: Path):
        self.artifacts = Directory(directory / "artifacts")
        self.file = directory / "mlflow.db"
        self.rested = 0
        self.database = DatabaseFile(["env", f"MLFLOW_BACKEND_STORE_URI=sqlite:///{self.file}", sys.executable])

    @contextlib.contextmanager
    def resting(self):
        self.rested += 1
        yield self.database

    def record(self, name: str, at: int) -> None:
        with contextlib.closing(sqlite3.connect(self.file)) as connection, connection:
            connection.execute("insert into registered_models values (?, ?)", (name, at))


@pytest.fixture
def registry(tmp_path):
    made = Registry(tmp_path / "registry")
    for key, content in {"1/MLmodel": "one", "1/model.pt": "weights", "2/model.pt": "weights"}.items():
        source = tmp_path / "source"
        source.write_text(content)
        made.artifacts.put(key, source)
    with contextlib.closing(sqlite3.connect(made.file)) as connection, connection:
        for table, columns in TABLES.items():
            connection.execute(f"create table {table} ({columns})")
        connection.execute("insert into experiments values (0, 9999)")
    made.record("churn", 1000)
    return made


@pytest.fixture
def kept(registry, tmp_path):
    """A backup of it."""
    to = Directory(tmp_path / "backup")
    run.backup(registry, to, Steps())
    return to


def restored(registry, kept, *, discard_newer=False):
    return run.restore(registry, kept, Steps(), discard_newer=discard_newer)


def test_a_backup_has_every_artifact_by_digest_and_the_same_bytes_once(kept):
    manifest = decoded(kept.fetch(KEY, Path()).read_text(), kept.uri)
    assert sorted(manifest.artifacts) == ["1/MLmodel", "1/model.pt", "2/model.pt"]
    assert {each.key for each in manifest.artifacts.values()} | {KEY, DATABASE} == set(kept.files())
    assert len(kept.files()) == 4
    assert manifest.database.changed == 1000, "the experiment that a server makes for itself is nobody's work"


def test_a_copy_of_a_database_that_is_written_meanwhile_is_of_one_moment(registry, tmp_path):
    with contextlib.closing(sqlite3.connect(registry.file)) as connection, connection:
        connection.execute("create table pair (at integer, half text)")
    stop, wrote = threading.Event(), threading.Event()

    def write():
        with contextlib.closing(sqlite3.connect(registry.file, timeout=30)) as connection:
            at = 0
            while not stop.is_set():
                with connection:
                    connection.execute("insert into pair values (?, ?)", (at, "x" * 5000))
                    connection.execute("insert into pair values (?, ?)", (at, "y" * 5000))
                at += 1
                wrote.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert wrote.wait(30)
        registry.database.snapshot(tmp_path / "copy")
    finally:
        stop.set()
        writer.join()
    with contextlib.closing(sqlite3.connect(tmp_path / "copy")) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        rows, moments = connection.execute("select count(*), count(distinct at) from pair").fetchone()
    assert rows == 2 * moments > 0, "no transaction came in half"


def test_a_second_backup_into_the_same_place_is_refused(registry, kept):
    with pytest.raises(StepError, match="holds a backup → one is never overwritten → name another place"):
        run.backup(registry, kept, Steps())


@pytest.mark.parametrize("damage", ["altered", "gone"])
def test_a_backup_that_is_not_what_its_manifest_says_is_not_restored(registry, kept, damage):
    victim = next(key for key in kept.files() if key.startswith("artifacts/"))
    file = kept.fetch(victim, Path())
    file.unlink() if damage == "gone" else file.write_text("other")
    with pytest.raises(StepError, match=victim):
        restored(registry, kept)
    assert registry.rested == 0, "the server was not even stopped"


def test_a_backup_that_never_ended_is_none(registry, kept):
    kept.fetch(KEY, Path()).unlink()
    with pytest.raises(StepError, match=r"has no manifest\.json → a backup that ended has one"):
        restored(registry, kept)


def test_what_was_recorded_since_is_not_lost_unless_told(registry, kept, tmp_path):
    registry.record("fraud", 2000)
    before = registry.file.read_bytes()
    source = tmp_path / "source"
    source.write_text("retrained")
    registry.artifacts.put("1/model.pt", source)
    with pytest.raises(StepError, match=r"1970-01-01T00:00:02.000\+00:00.*would lose that.*--discard-newer"):
        restored(registry, kept)
    assert registry.file.read_bytes() == before
    assert registry.artifacts.fetch("1/model.pt", Path()).read_text() == "retrained", "nothing was written"


@pytest.mark.parametrize("left", ["", "no database"])
def test_a_database_that_is_gone_or_damaged_is_not_newer(registry, left):
    registry.file.write_text(left * 1000) if left else registry.file.unlink()
    assert registry.database.changed() is None


def test_a_database_whose_tables_are_not_known_is_no_empty_one(registry):
    with contextlib.closing(sqlite3.connect(registry.file)) as connection, connection:
        connection.execute("drop table runs")
    with pytest.raises(StepError, match="no such table: runs"):
        registry.database.changed()


def test_bytes_that_were_lost_on_the_way_replace_nothing(registry, kept):
    manifest = decoded(kept.fetch(KEY, Path()).read_text(), kept.uri)
    before = registry.file.read_bytes()
    with pytest.raises(StepError, match="left as it is"):
        registry.database.replace(kept.fetch(KEY, Path()), manifest.database.content)
    assert registry.file.read_bytes() == before
    assert [path.name for path in registry.file.parent.iterdir() if path.is_file()] == [registry.file.name]


def test_the_pod_that_restores_is_the_servers_but_gets_no_requests():
    golden = PROJECT / "tests" / "golden" / "local" / "slipway-platform.deployment.mlflow.yaml"
    server = yaml.safe_load(golden.read_text())
    template = server["spec"]["template"]
    pod = restorer(server)
    assert "labels" not in pod["metadata"], "neither its Service nor a network policy means it"
    assert pod["spec"]["volumes"] == template["spec"]["volumes"]
    assert pod["spec"]["securityContext"] == template["spec"]["securityContext"]
    (container,), (original,) = pod["spec"]["containers"], template["spec"]["containers"]
    assert container["securityContext"] == original["securityContext"]
    assert container["env"] == original["env"]
    assert not {"readinessProbe", "livenessProbe", "startupProbe", "args"} & set(container)


def test_a_place_is_a_directory_or_s3():
    with pytest.raises(StepError, match="gs://bucket → a backup is in a directory or at s3://bucket/prefix"):
        place("gs://bucket")


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_stack_on_aws_is_told_where_its_backups_are(command):
    done = CliRunner().invoke(app, [command, "anywhere", "--stack", "prod"])
    assert isinstance(done.exception, StepError)
    assert "its platform is of kind reference" in str(done.exception)
    assert "docs/guides/recovery.md" in str(done.exception)


def test_a_manifest_that_is_none_is_named():
    with pytest.raises(StepError, match=r"s3://b/manifest.json: KeyError\('database'\)"):
        decoded(json.dumps({"taken": ""}), "s3://b")
