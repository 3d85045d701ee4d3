from __future__ import annotations

import json

import numpy as np
import pytest

from bench.protocols import BARE_JSON, JSON_BYTES, MLFLOW_JSON, PREDICT_JSON, V2_BINARY, V2_JSON
from bench.servers import SERVERS
from bench.verify import MismatchError, compare
from bench.visit import raw

ROWS = np.array([[0.1234, -1.5], [2.0, 3.25]], dtype=np.float32)


def test_json_has_numbers_as_people_write_them():
    assert b"0.1234," in V2_JSON.ask(ROWS, 0).body


def test_a_binary_request_says_where_its_json_ends_and_asks_for_binary_answers():
    message = V2_BINARY.ask(ROWS, 100_000)
    end = int(message.headers[JSON_BYTES])
    head = json.loads(message.body[:end])
    assert head["parameters"] == {"binary_data_output": True, "timeout": 100_000}
    assert np.frombuffer(message.body[end:], np.float32).reshape(2, 2).tolist() == ROWS.tolist()


@pytest.mark.parametrize(
    ("protocol", "answer"),
    [
        (V2_JSON, {"outputs": [{"name": "output", "datatype": "FP32", "shape": [2, 1], "data": [1.5, 2.5]}]}),
        (MLFLOW_JSON, {"predictions": [[1.5], [2.5]]}),
        (PREDICT_JSON, {"outputs": [[1.5], [2.5]]}),
        (BARE_JSON, [[1.5], [2.5]]),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_every_answer_becomes_one_number_for_each_row(protocol, answer):
    assert protocol.read(json.dumps(answer).encode(), {}).tolist() == [1.5, 2.5]


def test_a_binary_answer_is_read_from_behind_its_json():
    head = json.dumps({"outputs": [{"name": "output", "datatype": "FP64", "shape": [2]}]}).encode()
    body = head + np.array([1.5, 2.5]).tobytes()
    assert V2_BINARY.read(body, {JSON_BYTES.lower(): str(len(head))}).tolist() == [1.5, 2.5]


def test_only_v2_has_a_timeout():
    with pytest.raises(ValueError, match="only V2"):
        MLFLOW_JSON.ask(ROWS, 1000)


@pytest.mark.parametrize(
    "answered", [[1.0, 2.1], [1.0, float("nan")], [1.0]], ids=["another value", "NaN", "a row less"]
)
def test_an_answer_that_differs_is_told_with_its_row(answered):
    with pytest.raises(MismatchError, match="here"):
        compare(np.array(answered), np.array([1.0, 2.0]), 1e-5, "here")


def test_an_answer_within_the_tolerance_is_fine():
    assert compare(np.array([1.000001]), np.array([1.0]), 1e-5, "here") == pytest.approx(1e-6)


def test_a_number_written_as_its_type_reads_it_is_that_number():
    assert compare(np.array([0.0012]), np.array([0.0012], np.float32), 0, "here") == 0


def test_a_raw_request_ends_where_its_length_says():
    head, _, body = raw(V2_JSON.ask(ROWS, 0)).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v2/models/bench/infer HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head


def test_every_server_speaks_json():
    assert all("json" in server.protocols for server in SERVERS.values())
