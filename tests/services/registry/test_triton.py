"""The service, judged by Triton's own client, over HTTP and gRPC."""

import numpy as np
import pytest

from tests.services import triton_calls

MODEL = "breast-cancer"
JSON, BINARY = {"binary_data": False}, {"binary_data": True}


@pytest.fixture(scope="module")
def process():
    with triton_calls.process() as process:
        yield process


@pytest.fixture(scope="module", params=["http", "grpc"])
def protocol(request):
    return request.param


@pytest.fixture(scope="module")
def triton(service, process, protocol):
    """Ask the service through Triton's client."""
    address = {"http": service.url.removeprefix("http://"), "grpc": service.grpc_target}[protocol]
    return lambda call, *args, **options: process.submit(call, (protocol, address), *args, **options).result(120)


@pytest.fixture(scope="module")
def over_http(service, process):
    target = ("http", service.url.removeprefix("http://"))
    return lambda call, *args, **options: process.submit(call, target, *args, **options).result(120)


def near(values):
    return pytest.approx(values, abs=1e-6, rel=1e-6)


def test_it_sees_what_the_service_describes(triton, client):
    flags, server, model = triton(triton_calls.describe, MODEL)
    assert flags == [True, True, True]
    over_http = client.get("/v2").json()
    assert (server["name"], server["version"]) == (over_http["name"], over_http["version"])
    described = client.get(f"/v2/models/{MODEL}").json()
    for tensor in (*model["inputs"], *model["outputs"]):
        tensor["shape"] = [int(size) for size in tensor["shape"]]  # JSON of protobuf has int64 as strings
    assert model == described


@pytest.mark.parametrize("form", ["one matrix", "a tensor per feature"])
def test_it_gets_the_golden_answers(triton, golden, rows, form):
    inputs = [("x", "FP64", rows)]
    if form == "a tensor per feature":
        inputs = [(name, "FP64", rows[:, at].copy()) for at, name in enumerate(golden[0]["features"])]
    outputs, request_id = triton(triton_calls.infer, MODEL, inputs, request_id="42", model_version="1")
    assert outputs["probability"] == near([row["probability"] for row in golden])
    assert outputs["prediction"].tolist() == [row["prediction"] for row in golden]
    assert request_id == "42"


def test_it_gets_the_outputs_it_asks_for_in_its_order(triton, rows):
    for wanted in (["prediction", "probability"], ["prediction"]):
        outputs, _ = triton(triton_calls.infer, MODEL, [("x", "FP64", rows)], outputs=wanted)
        assert list(outputs) == wanted


def test_it_may_set_a_timeout_a_priority_and_compression(triton, protocol, rows):
    options = {
        "http": {"request_compression_algorithm": "gzip", "response_compression_algorithm": "deflate"},
        "grpc": {"compression_algorithm": "gzip", "client_timeout": 30},
    }[protocol]
    outputs, _ = triton(triton_calls.infer, MODEL, [("x", "FP64", rows)], timeout=30_000_000, priority=1, **options)
    assert len(outputs["probability"]) == len(rows)


def test_it_is_told_why_it_is_refused(triton, protocol, rows):
    kind, status, message = triton(triton_calls.infer, MODEL, [("x", "FP64", rows[:, :2].copy())])
    assert (kind, status) == ("refused", {"http": "400", "grpc": "StatusCode.INVALID_ARGUMENT"}[protocol])
    assert "[rows, 30]" in message


@pytest.mark.parametrize("asks", [JSON, BINARY])
@pytest.mark.parametrize("answers", [JSON, BINARY])
def test_over_http_each_side_chooses_its_form(over_http, golden, rows, asks, answers):
    outputs, _ = over_http(
        triton_calls.infer, MODEL, [("x", "FP64", rows)], outputs=["probability"], form=(asks, answers)
    )
    assert outputs["probability"].dtype == np.float32
    assert outputs["probability"] == near([row["probability"] for row in golden])


def test_the_configuration_is_as_perf_analyzer_reads_it(over_http, client):
    found = over_http(triton_calls.configuration, MODEL)
    described = client.get(f"/v2/models/{MODEL}").json()
    assert found["name"] == MODEL
    assert found["max_batch_size"] == 4096, "rows of one request, as the service's limits are by default"
    for kind, tensors in (("input", described["inputs"]), ("output", described["outputs"])):
        told = [(each["name"], each["data_type"], each["dims"]) for each in found[kind]]
        assert told == [(each["name"], f"TYPE_{each['datatype']}", each["shape"][1:]) for each in tensors]
    versioned = client.get(f"/v2/models/{MODEL}/versions/1/config")
    assert versioned.json() == found
    assert client.get("/v2/models/nobody/config").status_code == 404
