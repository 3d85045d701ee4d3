"""A registry on a real MLflow and the environment's S3 gateway: lost, and brought back."""

import contextlib
import os
import sqlite3
import sys
from pathlib import Path

import httpx
import pytest

from services.contract import directory_digest
from services.inference.runtimes.sources.fetch import Origin, fetch
from tests.cluster.conftest import free_port
from tests.processes import Process
from tests.services.conftest import S3_KEY, s3_client
from tools.backup import run
from tools.backup.manifest import Content
from tools.backup.places import S3, Directory
from tools.backup.registry import DatabaseFile
from tools.registry import Registration, list_versions, register_bundle
from tools.steps import StepError, Steps

pytestmark = pytest.mark.engine


class Registry:
    """An MLflow server with its database in a file and its artifacts in S3, as on the local platform."""

    def __init__(self, directory: Path, endpoint: str, client):
        self.file = directory / "mlflow.db"
        self.artifacts = S3(client, "registry", "mlflow")
        self._directory, self._port = directory, free_port()
        self._environment = os.environ | {
            **S3_KEY,
            "AWS_DEFAULT_REGION": S3_KEY["AWS_REGION"],
            "MLFLOW_S3_ENDPOINT_URL": endpoint,
            "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{self.file}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        variable = f"MLFLOW_BACKEND_STORE_URI=sqlite:///{self.file}"
        self.database = DatabaseFile(["env", variable, sys.executable])
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self):
        command = [
            sys.executable, "-m", "mlflow", "server", "--artifacts-destination", "s3://registry/mlflow",
            "--serve-artifacts", "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1",
        ]  # fmt: skip
        self._server = Process(command, self._directory, self._environment)
        self._server.until(self._healthy, "MLflow does not start")

    def stop(self):
        self._server.stop()

    def _healthy(self):
        try:
            return httpx.get(f"{self.url}/health", timeout=5).is_success or None
        except httpx.TransportError:
            return None

    @contextlib.contextmanager
    def resting(self):
        self.stop()
        try:
            yield self.database
        finally:
            self.start()


@pytest.fixture(scope="module")
def client(gateway):
    made = s3_client(gateway)
    made.create_bucket(Bucket="registry")
    yield made
    made.close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory, gateway, client, bundle):
    made = Registry(tmp_path_factory.mktemp("registry"), gateway, client)
    made.start()
    # Artifacts by the proxy, not by links into the object store: as at the environment's gateway.
    os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"] = "false"
    try:
        register_bundle(made.url, Registration(name="kept", bundle=bundle, metrics={"auc": 0.9}, parameters={}))
        yield made
    finally:
        del os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"]
        made.stop()


def lose(registry, client):
    """All of it, and a server that has started without."""
    registry.stop()
    for key in registry.artifacts.files():
        client.delete_object(Bucket="registry", Key=f"mlflow/{key}")
    registry.file.unlink()
    registry.start()
    assert list_versions(registry.url) == []
    assert registry.artifacts.files() == []


def test_models_and_artifacts_are_as_before(registry, client, tmp_path):
    directory, bucket = Directory(tmp_path / "kept"), S3(client, "registry", "backups/one")
    before = list_versions(registry.url)
    kept = [run.backup(registry, place, Steps()).artifacts for place in (directory, bucket)]
    assert kept[0] == kept[1]
    assert sorted(kept[0]) == sorted(registry.artifacts.files())
    assert sorted(directory.files()) == sorted(bucket.files())
    lose(registry, client)
    run.restore(registry, bucket, Steps(), discard_newer=False)
    assert list_versions(registry.url) == before
    origin = Origin(uri=before[0].uri, digest=before[0].digest, tracking_uri=registry.url)
    found = fetch(origin, tmp_path / "fetched")
    assert directory_digest(found.directory) == before[0].digest


def test_a_database_that_this_mlflow_cannot_read_replaces_nothing(registry, tmp_path):
    copy = tmp_path / "copy"
    registry.database.snapshot(copy)
    with contextlib.closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("update alembic_version set version_num = 'of-the-future'")
    with registry.resting() as resting, pytest.raises(StepError, match=r"this MLflow cannot read it.*of-the-future"):
        resting.replace(copy, Content.of(copy))
    assert [version.name for version in list_versions(registry.url)] == ["kept"]
