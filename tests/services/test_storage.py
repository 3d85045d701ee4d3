"""KServe's storage initializer, run as KServe runs it."""

import subprocess
import sys

import pytest

from services.contract import directory_digest


@pytest.fixture
def artifact(tmp_path):
    directory = tmp_path / "artifact"
    (directory / "data").mkdir(parents=True)
    (directory / "MLmodel").write_text("flavors: {}\n")
    (directory / "data" / "model.pt").write_bytes(b"weights")
    return directory


@pytest.fixture
def mounted(tmp_path):
    directory = tmp_path / "models"
    directory.mkdir()
    return directory


def initialize(*arguments):
    command = [sys.executable, "-m", "services.inference.storage", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_files_of_an_artifact_and_nothing_else_are_where_runtimes_look(artifact, mounted):
    done = initialize(artifact, mounted)
    assert done.returncode == 0, done.stderr
    assert directory_digest(mounted) == directory_digest(artifact)


def test_what_a_try_that_was_killed_left_is_removed(artifact, mounted):
    (mounted / ".fetching" / "artifacts").mkdir(parents=True)
    (mounted / ".fetching" / "artifacts" / "half").write_text("of it")
    (mounted / "MLmodel").write_text("half")
    assert initialize(artifact, mounted).returncode == 0
    assert directory_digest(mounted) == directory_digest(artifact)


def test_an_artifact_that_is_not_there_is_named_on_the_last_line(tmp_path, mounted):
    done = initialize(tmp_path / "nowhere", mounted)
    assert done.returncode == 1
    assert "nowhere: no such directory" in done.stderr.splitlines()[-1]
    assert not [path for path in mounted.iterdir() if not path.name.startswith(".")]


def test_arguments_that_are_not_kserves_are_refused():
    done = initialize("models:/fraud/7")
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
