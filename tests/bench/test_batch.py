import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.batch import SAME, difference
from bench.processes import BenchError


@pytest.fixture
def tables(tmp_path):
    """Writes ours, and theirs of the given rows."""

    def write(ids, probabilities):
        ours, theirs = tmp_path / "ours", tmp_path / "theirs"
        ours.mkdir()
        theirs.mkdir()
        pq.write_table(pa.table({"id": [0, 1, 2], "probability": [0.0, 0.25, 0.5]}), ours / "part.parquet")
        (ours / "_manifest.json").write_text(json.dumps({"parts": [{"key": "part.parquet"}]}))
        pq.write_table(pa.table({"id": ids, "probability": probabilities}), theirs / "x.parquet")
        return ours, theirs

    return write


def test_a_peers_rows_may_come_in_another_order(tables):
    assert difference(*tables([2, 0, 1], [0.5, 0.0, 0.25 + SAME / 2])) == pytest.approx(SAME / 2)


@pytest.mark.parametrize("ids", [[0, 1], [0, 1, 3], [0, 1, 1]])
def test_a_peer_that_answers_other_rows_is_told(tables, ids):
    with pytest.raises(BenchError, match="each row once"):
        difference(*tables(ids, [0.0, 0.25, 0.5][: len(ids)]))


@pytest.mark.parametrize("wrong", [0.6, float("nan")])
def test_a_peer_that_answers_otherwise_is_told(tables, wrong):
    with pytest.raises(BenchError, match="apart"):
        difference(*tables([0, 1, 2], [0.0, 0.25, wrong]))
