"""A process with several models: lazy, evicted, loaded by hand, on real parts."""

import asyncio
import re

import httpx
import pytest
import yaml

from services.contract import Env, directory_digest
from tests.services.scaling import body, scaling_bundle

TOKEN = "a-token-of-the-tests"
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}


def models_file(directory, *entries):
    path = directory / "models.yaml"
    path.write_text(yaml.safe_dump({"models": list(entries)}))
    return path


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    return {factor: scaling_bundle(root / str(factor), factor) for factor in (2, 3, 5)}


@pytest.fixture(scope="module")
def many(serve, bundles, tmp_path_factory):
    """Two versions of one model, the first its default, and a lazy model."""
    entries = [
        {"name": "scale", "uri": str(bundles[2]), "version": "two", "default": True},
        {"name": "scale", "uri": str(bundles[3]), "version": "three"},
        {"name": "lazy", "uri": str(bundles[5]), "lazy": True, "digest": directory_digest(bundles[5])},
        {"name": "broken", "uri": str(bundles[5].parent / "nowhere"), "lazy": True},
    ]
    path = models_file(tmp_path_factory.mktemp("many"), *entries)
    return serve({Env.MODELS_FILE: path, Env.MODEL_NAME: None, Env.REPOSITORY_TOKEN: TOKEN}).ready()


@pytest.fixture
def client(many):
    with many.client() as client:
        yield client


def answer(client, path):
    found = client.post(f"/v2/models/{path}/infer", json=body(1, 10))
    assert found.status_code == 200, found.text
    return found.json()["outputs"][0]["data"]


def index(client):
    found = client.post("/v2/repository/index", headers=AUTHORIZED).json()
    return {(entry["name"], entry["version"]): entry["state"] for entry in found}


def test_versions_answer_by_their_names_and_the_default_without_one(client):
    assert answer(client, "scale") == [2, 20]
    assert answer(client, "scale/versions/two") == [2, 20]
    assert answer(client, "scale/versions/three") == [3, 30]
    assert client.get("/v2/models/scale").json()["versions"] == ["two", "three"]
    assert client.post("/v2/models/scale/versions/four/infer", json=body(1, 1)).status_code == 404


def test_a_lazy_model_is_loaded_by_its_first_requests_once(many, client):
    assert client.get("/v2/models/lazy/ready").status_code == 503

    async def first_requests():
        async with httpx.AsyncClient(base_url=many.url, timeout=60) as caller:
            return await asyncio.gather(*[caller.post("/v2/models/lazy/infer", json=body(1, 1)) for _ in range(20)])

    answers = asyncio.run(first_requests())
    assert {(a.status_code, tuple(a.json()["outputs"][0]["data"])) for a in answers} == {(200, (5, 5))}
    assert many.stdout.read_text().count('"model":"lazy"') == 1, "twenty requests share one load"
    assert client.get("/v2/models/lazy/ready").status_code == 200


def test_a_model_that_cannot_be_loaded_says_why_and_when_it_is_tried_again(client):
    first = client.post("/v2/models/broken/infer", json=body(1, 1))
    second = client.post("/v2/models/broken/infer", json=body(1, 1))
    assert (first.status_code, second.status_code) == (503, 503)
    assert "no such directory" in second.json()["error"]
    assert int(second.headers["retry-after"]) >= 1
    assert answer(client, "scale") == [2, 20], "its neighbours do not mind"


def test_the_repository_extension_needs_its_token(client):
    assert client.post("/v2/repository/index").status_code == 401
    assert client.post("/v2/repository/index", headers={"authorization": "Bearer wrong"}).status_code == 401


def test_models_are_unloaded_and_loaded_by_hand(client):
    assert client.post("/v2/repository/models/scale/unload", headers=AUTHORIZED).status_code == 200
    refused = client.post("/v2/models/scale/infer", json=body(1, 1))
    assert (refused.status_code, index(client)["scale", "two"]) == (503, "UNAVAILABLE")
    assert client.post("/v2/repository/models/scale/load", headers=AUTHORIZED).status_code == 200
    assert answer(client, "scale") == [2, 20]
    assert index(client)["scale", "three"] == "READY"
    assert client.post("/v2/repository/models/nobody/load", headers=AUTHORIZED).status_code == 404


def test_models_beyond_the_memory_bound_take_turns(serve, bundles, tmp_path):
    entries = [{"name": f"m{factor}", "uri": str(bundles[factor]), "lazy": True} for factor in (2, 3, 5)]
    path = models_file(tmp_path, *entries)
    bound = 120_000_000  # of three bundles of forty megabytes, and what running them takes, two fit
    running = serve({Env.MODELS_FILE: path, Env.MODEL_NAME: None, Env.MODEL_MEMORY_BYTES: bound}).ready()
    with running.client() as client:
        for factor in (2, 3, 5, 2, 3, 5):
            assert answer(client, f"m{factor}") == [factor, 10 * factor]
        samples = [line for line in client.get("/metrics").text.splitlines() if line.startswith("slipway_model_memory")]
        in_memory = [float(line.split()[-1]) for line in samples]
        assert 0 < sum(in_memory) <= bound
        assert 0.0 in in_memory, "somebody had to go"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("models: []", "models"),
        ("models: [{name: a}]", "models.0.uri"),
        ("models: [{name: a, uri: b, colour: red}]", "models.0.colour"),
        ("models: [{name: a, uri: b, default: true}, {name: a, uri: c, default: true}]", "'a'"),
        ("models: [", "YAML|flow|expected"),
    ],
)
def test_a_models_file_with_an_error_ends_the_process_with_its_place(serve, tmp_path, content, message):
    path = tmp_path / "models.yaml"
    path.write_text(content)
    process = serve({Env.MODELS_FILE: path, Env.MODEL_NAME: None})
    assert process.wait() == 1
    line = process.stderr.read_text()
    assert "SLIPWAY_MODELS_FILE" in line
    assert re.search(message, line), line
