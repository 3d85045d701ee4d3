from __future__ import annotations

import os
import sys
from pathlib import PurePosixPath

import httpx
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.processes import Process, free_port
from tools.steps import StepError
from tools.toolchain import build

SHARED = "shared"
SHARING = ("tests/services/registry", "tests/examples", "tests/infra/test_registry.py")
"""The tests of files in these share a trained model and an MLflow server, a minute to make."""


def pytest_configure(config):
    for line in (
        # MLflow warns about its own types when it is imported.
        "ignore:.*Any type hint is inferred as AnyType:UserWarning",
        # The service ignores it too: columns are in the order of the signature.
        "ignore:X does not have valid feature names",
        # MLflow reads an input example in a way that pandas 4 will not have.
        "ignore:Operation with range is deprecated",
    ):
        config.addinivalue_line("filterwarnings", line)


class ByFile(LoadScopeScheduling):
    """Each file's tests run on one process of xdist, those that share costly fixtures on the same."""

    def _split_scope(self, nodeid):
        file = nodeid.partition("::")[0]
        return SHARED if any(PurePosixPath(file).is_relative_to(path) for path in SHARING) else file


def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)


@pytest.fixture(scope="session")
def toolchain_bin():
    """The directory with every program of the toolchain; `make test` builds it before pytest starts."""
    try:
        return build.binary("pulumi").parent
    except StepError as error:
        pytest.fail(f"{error}; the Makefile's targets do it before they run these tests", pytrace=False)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The example model, trained."""
    from examples.breast_cancer.train import train  # noqa: PLC0415 - torch is for those who ask for it

    return train(tmp_path_factory.mktemp("example") / "bundle")


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory):
    """URL of an MLflow server that proxies its artifacts."""
    directory = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{directory}/mlflow.db",
        "--artifacts-destination", str(directory / "artifacts"), "--serve-artifacts",
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    # Without the background jobs, which nothing here uses and which are eight processes more.
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = Process(command, directory, os.environ | quiet)
    url = f"http://127.0.0.1:{port}"

    def healthy():
        try:
            return url if httpx.get(f"{url}/health", timeout=5).is_success else None
        except httpx.TransportError:
            return None

    try:
        yield server.until(healthy, "MLflow does not start")
    finally:
        server.stop()
