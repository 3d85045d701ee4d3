"""Real parts: an MLflow server, the service's own process, a trained bundle. Each starts once and is ended."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

import boto3
import httpx
import numpy as np
import pytest
from botocore.config import Config

from examples.breast_cancer.train import MODEL_NAME
from services.contract import Env
from tests.processes import Process, free_port
from tools.registry import Registration, register_bundle


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
def bundle(trained):
    """The trained example's directory."""
    return trained.directory


@pytest.fixture(scope="session")
def golden(bundle):
    """Rows of the holdout part with the answers of the training process."""
    return json.loads((bundle / "golden.json").read_text())["rows"]


@pytest.fixture(scope="session")
def rows(golden):
    """The golden rows, FP64 [rows, 30]."""
    return np.array([list(row["features"].values()) for row in golden])


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


def s3_client(gateway):
    """A client of the gateway, as whoever owns it."""
    return boto3.client(
        "s3",
        endpoint_url=gateway,
        aws_access_key_id=S3_KEY["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=S3_KEY["AWS_SECRET_ACCESS_KEY"],
        region_name=S3_KEY["AWS_REGION"],
        config=Config(s3={"addressing_style": "path"}),
    )


@pytest.fixture(scope="session")
def gateway(toolchain_bin, tmp_path_factory):
    """Endpoint of a versitygw over a directory."""
    root = tmp_path_factory.mktemp("s3")
    (root / "data").mkdir()
    address = f"127.0.0.1:{free_port()}"
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
