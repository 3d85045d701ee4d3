"""Bringing artifacts here: verified, once, whole or not at all."""

import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services.contract import directory_digest
from services.inference.core.errors import DigestMismatch, FetchFailed
from services.inference.runtimes.sources.fetch import Backoff, Origin, fetch


@pytest.fixture
def artifact(tmp_path):
    directory = tmp_path / "artifact"
    (directory / "data").mkdir(parents=True)
    (directory / "config.yaml").write_text("a: 1\n")
    (directory / "data" / "model.pt").write_bytes(b"weights")
    return directory


def held_in(cache):
    return sorted(path.name for path in (cache / "artifacts").iterdir() if not path.name.startswith("."))


def test_a_directory_is_copied_under_its_digest(artifact, tmp_path):
    found = fetch(Origin(uri=str(artifact)), tmp_path / "cache")
    assert directory_digest(found.directory) == found.digest == directory_digest(artifact)
    assert not found.verified, "nothing vouched for it"
    (artifact / "config.yaml").write_text("changed later")
    assert (found.directory / "config.yaml").read_text() == "a: 1\n", "what was verified is what is read"


def test_a_wrong_digest_leaves_nothing_in_the_cache(artifact, tmp_path):
    with pytest.raises(DigestMismatch, match=directory_digest(artifact)):
        fetch(Origin(uri=str(artifact), digest="sha256:" + "0" * 64), tmp_path / "cache")
    assert held_in(tmp_path / "cache") == []


def test_a_verified_artifact_is_taken_from_the_cache_when_its_source_is_gone_from_there(artifact, tmp_path):
    origin = Origin(uri=str(artifact), digest=directory_digest(artifact))
    first = fetch(origin, tmp_path / "cache")
    (artifact / "config.yaml").write_text("another release")
    assert fetch(origin, tmp_path / "cache") == first
    assert first.verified


def test_a_cached_artifact_that_was_changed_on_disk_is_fetched_again(artifact, tmp_path):
    origin = Origin(uri=str(artifact), digest=directory_digest(artifact))
    found = fetch(origin, tmp_path / "cache")
    (found.directory / "config.yaml").write_text("tampered")
    assert (fetch(origin, tmp_path / "cache").directory / "config.yaml").read_text() == "a: 1\n"
    assert held_in(tmp_path / "cache") == [origin.digest.removeprefix("sha256:")], "and no rest is left"


def test_a_symbolic_link_is_refused(artifact, tmp_path):
    (artifact / "link").symlink_to("/etc/passwd")
    with pytest.raises(FetchFailed, match="link is a symbolic link"):
        fetch(Origin(uri=str(artifact)), tmp_path / "cache")


def test_processes_that_share_a_cache_end_with_one_whole_artifact(artifact, tmp_path):
    program = (
        "import sys; from pathlib import Path; from services.inference.runtimes.sources.fetch import Origin, fetch;"
        "print(fetch(Origin(uri=sys.argv[1], digest=sys.argv[2]), Path(sys.argv[3])).directory)"
    )
    command = [sys.executable, "-c", program, str(artifact), directory_digest(artifact), str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = [process.communicate(timeout=120)[0] for process in running]
    assert all(process.returncode == 0 for process in running)
    assert sum("artifact fetched" in output for output in outputs) == 1, "downloaded more than once"
    assert held_in(tmp_path / "cache") == [directory_digest(artifact).removeprefix("sha256:")]


def test_a_registry_that_is_down_is_tried_again_and_then_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"  # bound, not listening: connections are refused
        waits = []
        origin = Origin(uri="models:/a/1", tracking_uri=url)
        with pytest.raises(FetchFailed, match="tried 3 times"):
            fetch(origin, tmp_path, Backoff(attempts=3, wait=waits.append))
    assert len(waits) == 2
    assert waits[1] > waits[0], "the pauses grow"


def test_a_registry_that_comes_back_is_not_given_up(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    asked = []

    class Restarting(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            missing = len(asked) > 2
            self.send_response(404 if missing else 503)
            self.end_headers()
            if missing:
                self.wfile.write(b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such model"}')

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Restarting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        origin = Origin(uri="models:/a/1", tracking_uri=f"http://127.0.0.1:{server.server_port}")
        waits = []
        with pytest.raises(FetchFailed, match="not in the registry"):
            fetch(origin, tmp_path, Backoff(wait=waits.append))
        server.shutdown()
    assert len(waits) == 2, "two failures were waited out; the third answer is final and not tried again"


@pytest.mark.parametrize(
    "uri", ["models:/a", "models:/a/latest", "models:/../1", "models:/a/1/x", "gs://a/b", "s3:///x"]
)
def test_a_uri_that_names_no_artifact_is_refused(tmp_path, uri):
    with pytest.raises(FetchFailed) as caught:
        fetch(Origin(uri=uri, tracking_uri="http://127.0.0.1:1"), tmp_path, Backoff(attempts=1))
    assert uri in str(caught.value)
