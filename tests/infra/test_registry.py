from __future__ import annotations

import hashlib
import socket

import httpx
import pytest

from infra.errors import RegistryError
from infra.registry.mlflow import MlflowRegistry
from infra.registry.reference import parse_reference
from infra.registry.resolve import resolve, resolve_in
from services.contract import DIGEST_TAG, artifact_digest
from tests.infra.recording import realtime, stack

FILES = {"MLmodel": b"flavors: {}\n", "bundle/model.pt": b"\x00" * 1000, "bundle/a b.txt": b"spaces are legal\n"}
DIGEST = artifact_digest((path, hashlib.sha256(content).hexdigest()) for path, content in FILES.items())


def models(*references):
    releases = {f"v{number}": {"model": reference} for number, reference in enumerate(references, start=1)}
    return stack(models={"fraud": realtime(releases=releases, traffic={"v1": 100})}).models


@pytest.fixture(scope="module")
def server(mlflow_server):
    """With one model: version 1 has files and no digest tag, version 2 has the tag."""
    with httpx.Client(base_url=mlflow_server, timeout=60) as client:
        register(client)
    return mlflow_server


def register(client):
    def call(method, **body):
        response = client.post(f"/api/2.0/mlflow/{method}", json=body)
        assert response.is_success, response.text
        return response.json()

    experiment = call("experiments/create", name="e")["experiment_id"]
    run = call("runs/create", experiment_id=experiment)["run"]["info"]
    root = run["artifact_uri"].removeprefix("mlflow-artifacts:/") + "/model"
    for path, content in FILES.items():
        client.put(f"/api/2.0/mlflow-artifacts/artifacts/{root}/{path}", content=content).raise_for_status()
    source = f"{run['artifact_uri']}/model"
    call("registered-models/create", name="fraud")
    call("model-versions/create", name="fraud", source=source, run_id=run["run_id"])
    tags = [{"key": DIGEST_TAG, "value": "sha256:" + "7" * 64}]
    call("model-versions/create", name="fraud", source=source, run_id=run["run_id"], tags=tags)
    call("registered-models/alias", name="fraud", alias="champion", version="2")


def test_a_version_without_the_tag_is_read_and_digested(server):
    found = resolve(models("models:/fraud/1"), server)["fraud"]["v1"]
    assert found.version == "1"
    assert found.digest == DIGEST, "the digest must be the one that the service computes over the files it downloads"


def test_an_alias_becomes_the_version_it_points_at_and_the_tag_is_believed(server):
    found = resolve(models("models:/fraud@champion"), server)["fraud"]["v1"]
    assert (found.version, found.digest, found.uri) == ("2", "sha256:" + "7" * 64, "models:/fraud/2")
    assert found.reference == "models:/fraud@champion"


def test_everything_that_does_not_exist_is_named_at_once_with_what_does(server):
    with pytest.raises(RegistryError) as raised:
        resolve(models("models:/fraud/9", "models:/fraud@nobody", "models:/freud/1"), server)
    assert str(raised.value).splitlines() == [
        (
            "slipway:models.fraud.releases.v1.model: models:/fraud/9 → fraud has no version 9 → "
            "use one of its versions (2, 1) or register it"
        ),
        (
            "slipway:models.fraud.releases.v2.model: models:/fraud@nobody → fraud has no alias nobody → "
            "use one of its versions (2, 1) or register it"
        ),
        (
            "slipway:models.fraud.releases.v3.model: models:/freud/1 → the registry has no model freud → "
            "register it, or correct the name"
        ),
    ]


def test_a_registry_below_a_path_is_asked_below_that_path():
    asked = []

    def answer(request):
        asked.append(request.url.path)
        tags = [{"key": DIGEST_TAG, "value": "sha256:" + "7" * 64}]
        return httpx.Response(200, json={"model_version": {"version": "1", "tags": tags}})

    with httpx.Client(base_url="http://host/mlflow", transport=httpx.MockTransport(answer)) as client:
        resolve_in(models("models:/fraud/1"), MlflowRegistry(client))
    assert asked == ["/mlflow/api/2.0/mlflow/model-versions/get"]


def test_a_registry_that_does_not_answer_is_named_with_what_to_do():
    with socket.socket() as bound:  # bound and not listening: connections are refused
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(RegistryError) as raised:
            resolve(models("models:/fraud/1"), url)
    message = str(raised.value)
    assert message.startswith("slipway:models.fraud.releases.v1.model: models:/fraud/1: ")
    assert url in message
    assert "set slipway:registry.url" in message


def test_something_else_at_the_registrys_address_is_told_apart():
    def answer(request):
        return httpx.Response(404, text="<html>not found</html>", request=request)

    with (
        httpx.Client(base_url="http://host", transport=httpx.MockTransport(answer)) as client,
        pytest.raises(RegistryError, match=r"an MLflow server is expected there → check slipway:registry\.url"),
    ):
        resolve_in(models("models:/fraud/1"), MlflowRegistry(client))


def test_no_models_ask_no_registry():
    assert resolve({}, "http://nowhere.invalid") == {}, "the first `pulumi up` has no registry to ask yet"


def test_an_artifact_outside_the_proxy_cannot_be_digested():
    def answer(request):
        if "download-uri" in request.url.path:
            return httpx.Response(200, json={"artifact_uri": "s3://bucket/1"})
        return httpx.Response(200, json={"model_version": {"version": "1"}})

    with (
        httpx.Client(base_url="http://host", transport=httpx.MockTransport(answer)) as client,
        pytest.raises(RegistryError, match="start the server with --serve-artifacts"),
    ):
        resolve_in(models("models:/fraud/1"), MlflowRegistry(client))


@pytest.mark.parametrize("text", ["models:/fraud/7", "models:/fraud@champion", "models:/a/b/7"])
def test_a_reference_reads_as_it_was_written(text):
    assert str(parse_reference(text)) == text
