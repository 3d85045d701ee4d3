"""The service's process, asked over HTTP in every protocol."""

import asyncio
import json

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.contract import Metric

TOLERANCE = 1e-6
MODEL = "breast-cancer"


def near(values):
    return pytest.approx(values, abs=TOLERANCE, rel=TOLERANCE)


def matrix(rows):
    return [list(row["features"].values()) for row in rows]


def test_predict_answers_each_golden_row_as_training_did(client, golden):
    for at, row in enumerate(golden):
        answer = client.post("/predict", json={"features": row["features"], "request_id": f"row-{at}"}).json()
        assert answer["probability"] == near(row["probability"]), f"row {at} is served other than it was trained"
        assert answer["prediction"] == row["prediction"]
        assert answer["request_id"] == f"row-{at}"
        assert answer["model_version"] == "1"
        assert 0 < answer["latency_ms"] < 10_000


def test_predict_of_a_list_answers_lists_in_order(client, golden):
    answer = client.post("/predict", json={"features": [row["features"] for row in golden]}).json()
    assert answer["probability"] == near([row["probability"] for row in golden])
    assert answer["prediction"] == [row["prediction"] for row in golden]


@pytest.mark.parametrize("form", ["objects", "arrays"])
def test_v1_answers_the_golden_probabilities(client, golden, form):
    instances = [row["features"] for row in golden] if form == "objects" else matrix(golden)
    answer = client.post(f"/v1/models/{MODEL}:predict", json={"instances": instances}).json()
    assert answer["predictions"] == near([row["probability"] for row in golden])
    assert answer["model_version"] == "1"
    assert 0 < answer["threshold"] < 1
    labels = [int(score >= answer["threshold"]) for score in answer["predictions"]]
    assert labels == [row["prediction"] for row in golden], "the threshold of the answer makes the predictions"


def v2_inputs(golden, form):
    if form == "one nested matrix":
        data = matrix(golden)
        return [{"name": "x", "shape": [len(data), 30], "datatype": "FP64", "data": data}]
    if form == "one flat matrix":
        data = [value for row in matrix(golden) for value in row]
        return [{"name": "x", "shape": [len(golden), 30], "datatype": "FP64", "data": data}]
    return [
        {"name": name, "shape": [len(golden)], "datatype": "FP64", "data": [row["features"][name] for row in golden]}
        for name in reversed(golden[0]["features"])
    ]


@pytest.mark.parametrize("form", ["one nested matrix", "one flat matrix", "a tensor per feature"])
@pytest.mark.parametrize("path", [f"/v2/models/{MODEL}/infer", f"/v2/models/{MODEL}/versions/1/infer"])
def test_v2_answers_the_golden_probabilities(client, golden, form, path):
    answer = client.post(path, json={"id": "42", "inputs": v2_inputs(golden, form)}).json()
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["probability"]["data"] == near([row["probability"] for row in golden])
    assert outputs["prediction"]["data"] == [row["prediction"] for row in golden]
    assert outputs["probability"]["shape"] == [len(golden)]
    assert (outputs["probability"]["datatype"], outputs["prediction"]["datatype"]) == ("FP32", "INT64")
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("42", MODEL, "1")


def test_v2_of_float32_differs_by_float32s_rounding_only(client, golden):
    tensor = {"name": "x", "shape": [len(golden), 30], "datatype": "FP32", "data": matrix(golden)}
    outputs = client.post(f"/v2/models/{MODEL}/infer", json={"inputs": [tensor]}).json()["outputs"]
    given = next(output["data"] for output in outputs if output["name"] == "probability")
    assert given == pytest.approx([row["probability"] for row in golden], abs=1e-5)


def test_v2_answers_only_the_outputs_asked_for(client, golden):
    body = {"inputs": v2_inputs(golden, "one flat matrix"), "outputs": [{"name": "prediction"}]}
    answer = client.post(f"/v2/models/{MODEL}/infer", json=body).json()
    assert [output["name"] for output in answer["outputs"]] == ["prediction"]


def test_metadata_and_readiness_of_each_protocol(client, golden):
    assert client.get("/v1/models").json() == {"models": [MODEL]}
    assert client.get(f"/v1/models/{MODEL}").json() == {"name": MODEL, "ready": True}
    assert client.get("/v2").json()["name"] == "slipway"
    for path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{MODEL}/ready"):
        assert client.get(path).status_code == 200, path
    described = client.get(f"/v2/models/{MODEL}/versions/1").json()
    assert [tensor["name"] for tensor in described["inputs"]] == list(golden[0]["features"]), "in the model's order"
    assert {tensor["datatype"] for tensor in described["inputs"]} == {"FP64"}
    assert [tensor["name"] for tensor in described["outputs"]] == ["probability", "prediction"]


def test_health_says_what_is_served(client, registered):
    assert client.get("/health").json() == {
        "status": "ready", "model": MODEL, "version": "1", "release": "v7", "digest": registered.digest,
    }  # fmt: skip


def test_every_answer_names_its_release_and_echoes_the_request_id(client, golden):
    for path in ("/health", "/v2/models/other", "/nowhere"):
        answer = client.get(path, headers={"x-request-id": "abc-1"})
        assert answer.headers["x-request-id"] == "abc-1", path
        assert answer.headers["x-model-version"] == "v7", path
    answer = client.post("/predict", json={"features": golden[0]["features"]}, headers={"x-request-id": "abc-2"})
    assert answer.json()["request_id"] == "abc-2", "the header's id stands in for the body's"


def features(golden, **changed):
    return {**golden[0]["features"], **changed}


def without(golden, name):
    return {key: value for key, value in golden[0]["features"].items() if key != name}


def test_a_missing_feature_is_named_in_each_protocol(client, golden):
    row = without(golden, "mean area")
    predict = client.post("/predict", json={"features": row})
    assert (predict.status_code, predict.json()["field"]) == (422, "mean area")
    assert predict.json()["error"] == "missing_feature"
    v1 = client.post(f"/v1/models/{MODEL}:predict", json={"instances": [golden[1]["features"], row]})
    assert v1.status_code == 400
    assert "row 1 has no feature 'mean area'" in v1.json()["error"]
    tensors = [tensor for tensor in v2_inputs(golden, "columns") if tensor["name"] != "mean area"]
    v2 = client.post(f"/v2/models/{MODEL}/infer", json={"inputs": tensors})
    assert v2.status_code == 400
    assert "'mean area'" in v2.json()["error"]


@pytest.mark.parametrize(("value", "shown"), [("1.5", "'1.5'"), (True, "True"), ([1], "[1]"), ({}, "{}")])
def test_a_value_of_the_wrong_type_is_named(client, golden, value, shown):
    answer = client.post("/predict", json={"features": features(golden, **{"mean area": value})})
    assert answer.status_code == 422
    assert answer.json()["message"].startswith(f"feature 'mean area' is {shown} in row 0"), answer.json()


def test_a_number_far_beyond_training_is_held_at_its_edge(client, golden):
    answer = client.post("/predict", json={"features": features(golden, **{"mean area": 10**30})})
    assert answer.status_code == 200, "a large number is a number"
    assert 0 <= answer.json()["probability"] <= 1


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_a_literal_that_json_lacks_is_refused_by_its_feature(client, golden, literal):
    body = json.dumps({"features": features(golden, **{"mean area": "HERE"})}).replace('"HERE"', literal)
    answer = client.post("/predict", content=body)
    assert (answer.status_code, answer.json()["field"]) == (422, "mean area")


def test_null_is_imputed_as_training_did(client, golden, bundle):
    columns = json.loads((bundle / "transformer.json").read_text())["columns"]
    median = next(column["impute"] for column in columns if column["name"] == "mean area")
    answers = [
        client.post("/predict", json={"features": features(golden, **{"mean area": value})}).json()["probability"]
        for value in (None, median)
    ]
    assert answers[0] == answers[1], "null stands for the training part's median"


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/predict", b"", 400, "not JSON"),
        ("/predict", b"[1]", 400, "JSON array"),
        ("/predict", b'{"features": 3}', 400, "'features' is a number"),
        ("/predict", b'{"features": []}', 400, "features is empty"),
        ("/predict", b'{"features": [7]}', 400, "features[0] is a JSON number"),
        ("/v1/models/breast-cancer:predict", b"{}", 400, "no 'instances'"),
        ("/v1/models/breast-cancer:predict", b'{"instances": [[1, 2]]}', 400, "has 2 values"),
        ("/v1/models/other:predict", b'{"instances": []}', 404, "'other'"),
        ("/v2/models/breast-cancer/infer", b'{"inputs": []}', 400, "no 'inputs'"),
        ("/v2/models/breast-cancer/infer", b'{"inputs": [{"name": "x"}]}', 400, "shape is None"),
        (
            "/v2/models/breast-cancer/infer",
            b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]}',
            400,
            "[rows, 30]",
        ),
        (
            "/v2/models/breast-cancer/infer",
            b'{"inputs": [{"name": "x", "shape": [1, 30], "datatype": "TEXT", "data": [1, 2]}]}',
            400,
            "'TEXT'",
        ),
        ("/v2/models/breast-cancer/versions/9/infer", b"{}", 404, "version '9'"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(client, path, body, status, said):
    answer = client.post(path, content=body)
    assert answer.status_code == status, answer.text
    assert said in answer.json().get("message", answer.json()["error"])
    assert "Traceback" not in answer.text


def test_a_body_beyond_the_limit_is_refused_with_or_without_a_declared_length(client):
    large = b"x" * 300_000
    assert client.post("/predict", content=large).status_code == 413
    assert client.post("/predict", content=iter([large[:150_000], large[150_000:]])).status_code == 413


async def test_concurrent_callers_each_get_their_own_rows_answer(service, golden):
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:

        async def ask(at: int):
            rows = [golden[(at + offset) % len(golden)] for offset in range(1 + at % 5)]
            answer = await client.post("/predict", json={"features": [row["features"] for row in rows]})
            return answer.json()["probability"], [row["probability"] for row in rows]

        for given, expected in await asyncio.gather(*(ask(at) for at in range(200))):
            assert given == near(expected), "a batch's results went to another caller"


def test_metrics_count_requests_rows_and_errors(client, golden):
    def value(name, **labels):
        families = text_string_to_metric_families(client.get("/metrics").text)
        samples = [s for family in families for s in family.samples if s.name == name]
        return sum(s.value for s in samples if labels.items() <= s.labels.items())

    release = {"model": MODEL, "release": "v7"}
    rows, refused = value(Metric.PREDICTED_ROWS, **release), value(Metric.REQUESTS, code="422", protocol="predict")
    client.post("/predict", json={"features": [row["features"] for row in golden[:3]]})
    client.post("/predict", json={"features": {}})
    assert value(Metric.PREDICTED_ROWS, **release) == rows + 3
    assert value(Metric.REQUESTS, code="422", protocol="predict", **release) == refused + 1
    assert value(Metric.LATENCY + "_count", protocol="predict", **release) >= 2
    assert value(Metric.MODEL_LOAD, **release) > 0
    assert value(Metric.IN_FLIGHT, **release) == 1, "the scrape itself"
    assert value(Metric.REQUESTS, code="503", protocol="v2") == 0, "a probe before readiness is no failed request"


def test_the_openapi_page_has_an_example_of_every_protocol(client):
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/predict", "/v1/models/{model}:predict", "/v2/models/{model}/infer"):
        content = paths[path]["post"]["requestBody"]["content"]["application/json"]
        assert content["example"], f"{path} has no example"
    assert client.get("/docs").status_code == 200
