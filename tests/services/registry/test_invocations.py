"""`/invocations` beside MLflow's own scoring server, on the same model and the same requests."""

import asyncio

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from sklearn.ensemble import RandomForestClassifier

from services.contract import Env, directory_digest

COLUMNS = ["amount", "items"]
ROWS = [[0.5, 3], [-1.25, 7], [2.0, 0]]
RECORDS = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]


@pytest.fixture(scope="module")
def forest(tmp_path_factory):
    random = np.random.default_rng(1)
    frame = pd.DataFrame({"amount": random.normal(size=60), "items": random.integers(0, 9, 60)})
    model = RandomForestClassifier(n_estimators=5, random_state=1).fit(frame, (frame["items"] > 4).astype(int))
    directory = tmp_path_factory.mktemp("forest") / "model"
    mlflow.sklearn.save_model(
        model,
        directory,
        serialization_format="cloudpickle",
        signature=ModelSignature(
            Schema([ColSpec("double", "amount"), ColSpec("long", "items")]), Schema([ColSpec("long")])
        ),
        pip_requirements=["scikit-learn"],
    )
    return directory


@pytest.fixture(scope="module")
def ours(serve, forest):
    running = serve({Env.MODEL_URI: forest, Env.MODEL_DIGEST: directory_digest(forest)}).ready()
    with running.client() as client:
        yield client


class InProcess:
    """An ASGI application, called without a server."""

    def __init__(self, app):
        self._transport = httpx.ASGITransport(app)

    def post(self, path, **request):
        async def call():
            async with httpx.AsyncClient(transport=self._transport, base_url="http://theirs") as client:
                return await client.post(path, **request)

        return asyncio.run(call())


@pytest.fixture(scope="module")
def theirs(forest):
    from mlflow.pyfunc import scoring_server  # noqa: PLC0415  # it warns, where only a test may

    return InProcess(scoring_server.init(mlflow.pyfunc.load_model(str(forest))))


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": COLUMNS, "data": ROWS}},
        {"dataframe_split": {"columns": COLUMNS[::-1], "index": [5, 6, 7], "data": [row[::-1] for row in ROWS]}},
        {"dataframe_split": {"columns": [*COLUMNS, "more"], "data": [[*row, 1] for row in ROWS]}},
        {"dataframe_records": RECORDS},
        {"dataframe_records": RECORDS[:1]},
        {"instances": RECORDS},
        {"inputs": {"amount": [0.5, -1.25], "items": [3, 7]}},
        {"inputs": RECORDS},
    ],
)
def test_json_gets_the_answer_that_mlflows_own_server_gives(ours, theirs, body):
    expected = theirs.post("/invocations", json=body)
    found = ours.post("/invocations", json=body)
    assert expected.status_code == 200, expected.text
    assert (found.status_code, found.json()) == (200, expected.json())


@pytest.mark.parametrize("media_type", ["text/csv", "text/csv; charset=utf-8"])
def test_csv_gets_the_answer_that_mlflows_own_server_gives(ours, theirs, media_type):
    text = pd.DataFrame(ROWS, columns=COLUMNS).to_csv(index=False)
    request = {"content": text.encode(), "headers": {"content-type": media_type}}
    assert ours.post("/invocations", **request).json() == theirs.post("/invocations", **request).json()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "none of the forms"),
        ({"dataframe_split": {"data": ROWS, "columns": COLUMNS}, "instances": RECORDS}, "instances"),
        ({"dataframe_split": {"columns": ["amount"], "data": [[1]]}}, "items"),
        ({"dataframe_split": {"columns": COLUMNS, "data": [[1]]}}, "data[0]"),
        ({"dataframe_split": {"columns": COLUMNS, "data": [["many", 1]]}}, "amount"),
        ({"dataframe_split": [1]}, "dataframe_split"),
        ({"dataframe_records": {"amount": 1}}, "dataframe_records"),
        ({"dataframe_records": [{"amount": 1}]}, "items"),
        ({"inputs": {"amount": [1, 2], "items": [1]}}, "amount"),
        ({"inputs": {"amount": [1, 2]}}, "items"),
        ({"instances": RECORDS, "params": {"temperature": 1}}, "temperature"),
        ({"instances": RECORDS, "params": [1]}, "params"),
    ],
)
def test_what_is_wrong_is_refused_in_mlflows_shape_and_named(ours, body, message):
    refused = ours.post("/invocations", json=body)
    assert refused.status_code == 400
    assert refused.json()["error_code"] == "BAD_REQUEST"
    assert message in refused.json()["message"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("amount,items\n", "empty"),
        ("amount\n1\n", "items"),
        ("amount,items\n1\n", "row 0"),
        ("amount,items\nmany,1\n", "amount"),
        ('amount,items\n"1,2\n', "CSV"),
        ("amount,items\n1,1.5\n", "items"),
    ],
)
def test_csv_that_is_wrong_is_refused_and_named(ours, text, message):
    refused = ours.post("/invocations", content=text.encode(), headers={"content-type": "text/csv"})
    assert (refused.status_code, refused.json()["error_code"]) == (400, "BAD_REQUEST")
    assert message in refused.json()["message"]


def test_a_model_of_several_outputs_answers_records(client, golden):
    rows = [row["features"] for row in golden[:3]]
    found = client.post("/invocations", json={"dataframe_records": rows}).json()["predictions"]
    assert [record["prediction"] for record in found] == [row["prediction"] for row in golden[:3]]
    assert [record["probability"] for record in found] == pytest.approx([row["probability"] for row in golden[:3]])
