"""Artifacts on S3, against the gateway that the embedded environment runs."""

import pytest

from services.contract import Env, directory_digest
from services.inference.core.errors import DigestMismatch, FetchFailed
from services.inference.runtimes.sources.fetch import Backoff, Origin, fetch
from tests.services.conftest import S3_KEY, s3_client

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def bucket(gateway, bundle):
    """The example's bundle at s3://models/cancer/7."""
    client = s3_client(gateway)
    client.create_bucket(Bucket="models")
    for path in bundle.rglob("*"):
        client.upload_file(str(path), "models", f"cancer/7/{path.relative_to(bundle)}")
    client.put_object(Bucket="models", Key="cancer/70/config.yaml", Body=b"another artifact")
    yield client
    client.close()


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
            **S3_KEY,
        }
    ).ready()
    with service.client() as client:
        answer = client.post("/predict", json={"features": golden[0]["features"]}).json()
    assert answer["probability"] == pytest.approx(golden[0]["probability"], abs=1e-6)
