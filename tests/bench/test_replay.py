from __future__ import annotations

import json

import numpy as np
import pytest

from bench.processes import BenchError
from bench.protocols import JSON_BYTES
from bench.replay import MOST_ROWS, REQUESTS, Asked, Told, differences, main, varied

ASKED = Asked(start=1, rows=2, binary=False, selects=True, binary_output=None, id="7")
OURS = Told(status=200, id="7", names=("output",), datatypes=("FP32",), shapes=((2, 1),), values=(1.5, 2.5))
EXPECTED = np.array([1.5, 2.5])
INPUTS = np.arange(8, dtype=np.float32).reshape(4, 2)


def unlike(**changed):
    told = Told(**{name: getattr(OURS, name) for name in Told.__slots__} | changed)
    return set(differences(ASKED, told, OURS, EXPECTED, 1e-5))


def test_the_same_answer_does_not_differ():
    assert unlike() == set()
    assert unlike(values=(1.500001, 2.5)) == set(), "within the tolerance"


@pytest.mark.parametrize(
    ("changed", "kinds"),
    [
        ({"status": 400}, ["status"]),
        ({"id": "8"}, ["id"]),
        ({"names": ("other",)}, ["names"]),
        ({"datatypes": ("FP64",)}, ["datatypes"]),
        ({"shapes": ((2,),)}, ["shapes"]),
        ({"values": (1.5, 2.6)}, ["values"]),
        ({"values": (1.5, float("nan"))}, ["values"]),
        ({"values": (1.5,), "shapes": ((1, 1),)}, ["shapes", "values"]),
    ],
    ids=str,
)
def test_each_kind_of_difference_is_found(changed, kinds):
    assert sorted(unlike(**changed)) == kinds


def test_an_id_of_a_servers_own_is_no_difference_where_the_caller_gave_none():
    asked = Asked(start=1, rows=2, binary=False, selects=True, binary_output=None, id="")
    told = Told(**{name: getattr(OURS, name) for name in Told.__slots__} | {"id": "made-up"})
    assert differences(asked, told, OURS, EXPECTED, 1e-5) == {}


def test_an_answer_is_read_alike_from_json_and_from_binary():
    output = {"name": "output", "datatype": "FP32", "shape": [2, 1]}
    plain = json.dumps({"id": "7", "outputs": [output | {"data": [1.5, 2.5]}]}).encode()
    head = json.dumps({"id": "7", "outputs": [output | {"parameters": {"binary_data_size": 8}}]}).encode()
    body = head + np.array([1.5, 2.5], "<f4").tobytes()
    assert Told.of(200, {}, plain) == Told.of(200, {JSON_BYTES.lower(): str(len(head))}, body) == OURS


def test_an_answer_that_is_no_v2_is_an_error():
    with pytest.raises(BenchError, match="no V2"):
        Told.of(200, {}, b'{"predictions": []}')


def test_a_request_carries_its_rows_in_either_encoding():
    plain = json.loads(ASKED.message(INPUTS).body)
    assert plain["inputs"][0]["data"] == [2, 3, 4, 5]
    assert (plain["id"], plain["outputs"]) == ("7", [{"name": "output"}])
    binary = Asked(start=1, rows=2, binary=True, selects=False, binary_output=True, id="").message(INPUTS)
    end = int(binary.headers[JSON_BYTES])
    assert np.frombuffer(binary.body[end:], "<f4").tolist() == [2, 3, 4, 5]
    assert json.loads(binary.body[:end])["parameters"] == {"binary_data_output": True}


def test_requests_are_the_same_in_every_run_and_of_every_form():
    requests = varied(REQUESTS, 1024)
    assert requests == varied(REQUESTS, 1024)
    forms = {(each.binary, each.selects, each.binary_output, bool(each.id)) for each in requests}
    assert len(forms) == 2 * 2 * 3 * 2
    assert {1, MOST_ROWS} <= {each.rows for each in requests}
    assert all(0 <= each.start <= 1024 - each.rows for each in requests)


def test_a_wrong_workload_is_answered_with_the_known_ones(capsys):
    assert main(["--workloads", "Z"]) == 1
    assert "known are" in capsys.readouterr().err
