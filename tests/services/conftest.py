"""Real parts: an MLflow server, the service's own process, a trained bundle. Each starts once and is ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

import httpx
import pytest

from examples.breast_cancer.train import MODEL_NAME, train
from services.contract import Env
from tools.registry import Registration, register_bundle

START_SECONDS = 120
"""Bound for a process to answer on a machine that is busy; on an idle one it takes five."""


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


class Process:
    """A child process with its output in files; the test that waits for it fails with what it said."""

    def __init__(self, command, directory: Path, environment):
        directory.mkdir(parents=True, exist_ok=True)
        self.stdout, self.stderr = directory / "stdout", directory / "stderr"
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self._child = subprocess.Popen(
                command, stdout=out, stderr=err, cwd=directory, env=environment, start_new_session=True
            )

    def wait(self, seconds: float = START_SECONDS) -> int:
        return self._child.wait(seconds)

    def signal(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def stop(self) -> int:
        if self._child.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            return self.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self._child.pid, signal.SIGKILL)
            return self.wait()

    def until(self, condition, what: str):
        """Poll until `condition` gives something; fail when the process ends or the time is up."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if (found := condition()) is not None:
                return found
            if self._child.poll() is not None:
                break
            time.sleep(0.05)
        pytest.fail(f"{what}: exit code {self._child.poll()}\n{self.stdout.read_text()}\n{self.stderr.read_text()}")


class Service(Process):
    """`python -m services.inference.main` on ports of the system's choice."""

    def __init__(self, directory: Path, settings: dict):
        self.cache = directory / "cache"
        self.termination_log = directory / "termination-log"
        directory.mkdir(parents=True, exist_ok=True)
        self.termination_log.touch()  # as a pod has it
        defaults = {
            Env.MODEL_NAME: MODEL_NAME,
            Env.RELEASE: "v7",
            Env.CACHE_DIR: self.cache,
            Env.HTTP_HOST: "127.0.0.1",
            Env.HTTP_PORT: 0,
            Env.GRPC_PORT: 0,
            Env.TERMINATION_LOG: self.termination_log,
        }
        chosen = {str(key): str(value) for key, value in {**defaults, **settings}.items() if value is not None}
        kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH", "LANG") if key in os.environ}
        super().__init__([sys.executable, "-m", "services.inference.main"], directory, {**kept, **chosen})

    @cached_property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._ports['port']}"

    @cached_property
    def grpc_target(self) -> str:
        return f"127.0.0.1:{self._ports['grpc_port']}"

    def ready(self):
        self.until(lambda: self._probe("/v2/health/ready") == 200 or None, "the service does not get ready")
        return self

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30)

    @cached_property
    def _ports(self) -> dict:
        return self.until(self._listening, "the service does not listen")

    def _listening(self):
        for line in self.stdout.read_text().splitlines():
            if line.startswith("{") and (event := json.loads(line))["event"] == "listening":
                return event
        return None

    def _probe(self, path: str):
        try:
            return httpx.get(self.url + path, timeout=5).status_code
        except httpx.TransportError:
            return None


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """The trained example."""
    return train(tmp_path_factory.mktemp("example") / "bundle").directory


@pytest.fixture(scope="session")
def golden(bundle):
    """Rows of the holdout part with the answers of the training process."""
    return json.loads((bundle / "golden.json").read_text())["rows"]


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory):
    """URL of an MLflow server that proxies its artifacts."""
    directory = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
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


@pytest.fixture(scope="session")
def registered(mlflow_server, bundle):
    """The example's version in the registry."""
    return register_bundle(
        mlflow_server,
        Registration(name=MODEL_NAME, bundle=bundle, metrics={"roc_auc": 0.99}, parameters={"hidden": 32}),
    )


@pytest.fixture(scope="session")
def serve(tmp_path_factory):
    """Start services with the given settings; all end with the session."""
    with ExitStack() as running:

        def start(settings: dict) -> Service:
            service = Service(tmp_path_factory.mktemp("service"), settings)
            running.callback(service.stop)
            return service

        yield start


@pytest.fixture(scope="session")
def service(serve, registered, mlflow_server):
    """The example, served from the registry with its digest."""
    return serve(
        {
            Env.MODEL_URI: registered.uri,
            Env.MODEL_DIGEST: registered.digest,
            Env.MLFLOW_TRACKING_URI: mlflow_server,
            Env.MAX_BODY_BYTES: 200_000,
        }
    ).ready()


@pytest.fixture
def client(service):
    with service.client() as client:
        yield client


S3_KEY = {
    "AWS_ACCESS_KEY_ID": "slipway-test",
    "AWS_SECRET_ACCESS_KEY": "slipway-test-secret",
    "AWS_REGION": "us-east-1",
}


@pytest.fixture(scope="session")
def gateway(toolchain_bin, tmp_path_factory):
    """Endpoint of a versitygw over a directory."""
    root = tmp_path_factory.mktemp("s3")
    (root / "data").mkdir()
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{chosen.getsockname()[1]}"
    environment = {"PATH": os.environ["PATH"], "ROOT_ACCESS_KEY": S3_KEY["AWS_ACCESS_KEY_ID"]}
    environment["ROOT_SECRET_KEY"] = S3_KEY["AWS_SECRET_ACCESS_KEY"]
    command = [str(toolchain_bin / "versitygw"), "--port", address, "--health", "/health", "posix", str(root / "data")]
    with (root / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"http://{address}/health", timeout=5)
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, (root / "log").read_text()
                assert server.poll() is None, (root / "log").read_text()
                time.sleep(0.05)
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def credentials(monkeypatch):
    for name, value in S3_KEY.items():
        monkeypatch.setenv(name, value)
