"""Artifacts on S3, against the gateway that the embedded environment runs."""

import os
import socket
import subprocess
import time

import boto3
import httpx
import pytest
from botocore.config import Config

from services.contract import Env, directory_digest
from services.inference.core.errors import DigestMismatch, FetchFailed
from services.inference.runtimes.sources.fetch import Backoff, Origin, fetch

pytestmark = pytest.mark.engine

KEY = {"AWS_ACCESS_KEY_ID": "slipway-test", "AWS_SECRET_ACCESS_KEY": "slipway-test-secret", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def gateway(toolchain_bin, tmp_path_factory):
    """Endpoint of a versitygw over a directory."""
    root = tmp_path_factory.mktemp("s3")
    (root / "data").mkdir()
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{chosen.getsockname()[1]}"
    environment = {"PATH": os.environ["PATH"], "ROOT_ACCESS_KEY": KEY["AWS_ACCESS_KEY_ID"]}
    environment["ROOT_SECRET_KEY"] = KEY["AWS_SECRET_ACCESS_KEY"]
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


@pytest.fixture(scope="module")
def bucket(gateway, bundle):
    """The example's bundle at s3://models/cancer/7."""
    client = boto3.client(
        "s3",
        endpoint_url=gateway,
        aws_access_key_id=KEY["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEY["AWS_SECRET_ACCESS_KEY"],
        region_name=KEY["AWS_REGION"],
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket="models")
    for path in bundle.rglob("*"):
        client.upload_file(str(path), "models", f"cancer/7/{path.relative_to(bundle)}")
    client.put_object(Bucket="models", Key="cancer/70/config.yaml", Body=b"another artifact")
    yield client
    client.close()


@pytest.fixture
def credentials(monkeypatch):
    for name, value in KEY.items():
        monkeypatch.setenv(name, value)


def test_a_prefix_is_downloaded_whole_and_nothing_beside_it(gateway, bucket, bundle, credentials, tmp_path):
    origin = Origin(uri="s3://models/cancer/7", digest=directory_digest(bundle), s3_endpoint_url=gateway)
    found = fetch(origin, tmp_path)
    assert found.verified
    assert found.digest == directory_digest(found.directory)


def test_another_digest_is_refused(gateway, bucket, credentials, tmp_path):
    origin = Origin(uri="s3://models/cancer/70/", digest="sha256:" + "0" * 64, s3_endpoint_url=gateway)
    with pytest.raises(DigestMismatch):
        fetch(origin, tmp_path)


@pytest.mark.parametrize("uri", ["s3://models/cancer/8", "s3://no-such-bucket/x"])
def test_what_is_not_there_is_named(gateway, bucket, credentials, tmp_path, uri):
    with pytest.raises(FetchFailed, match=uri):
        fetch(Origin(uri=uri, s3_endpoint_url=gateway), tmp_path, Backoff(attempts=1))


def test_the_service_serves_from_s3(serve, gateway, bucket, bundle, golden):
    service = serve(
        {
            Env.MODEL_URI: "s3://models/cancer/7",
            Env.MODEL_DIGEST: directory_digest(bundle),
            Env.S3_ENDPOINT_URL: gateway,
            **KEY,
        }
    ).ready()
    with service.client() as client:
        answer = client.post("/predict", json={"features": golden[0]["features"]}).json()
    assert answer["probability"] == pytest.approx(golden[0]["probability"], abs=1e-6)
