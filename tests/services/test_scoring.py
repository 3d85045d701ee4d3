"""Scoring of many rows: whole batches where they can be taken, single rows where they cannot."""

import numpy as np

from services.inference.core.errors import InvalidValue, PredictionFailed
from services.inference.core.types import Rows
from tests.services.scored_tables import HalfTheAmount, pipeline_of


def batch(amounts, counts=None, sites=None):
    amounts = np.asarray(amounts, dtype=np.float64)
    counts = np.zeros(len(amounts)) if counts is None else np.asarray(counts, dtype=np.float64)
    sites = np.array(["here"] * len(amounts) if sites is None else sites, dtype=object)
    return Rows(np.stack([amounts, counts], axis=1), sites.reshape(-1, 1))


def scored(*batches, runtime=None, most_rows=64):
    return list(pipeline_of(runtime, most_rows=most_rows).infer_many(batches))


def test_batches_are_answered_in_order_and_cut_to_what_the_model_takes_at_once():
    runtime = HalfTheAmount()
    first, second = scored(batch(np.arange(150)), batch([1.0]), runtime=runtime)
    assert np.array_equal(first.outputs["probability"], np.arange(150, dtype=np.float32) / 2)
    assert second.outputs["prediction"].tolist() == [1]
    assert runtime.largest == 64
    assert not first.refused


def test_rows_that_the_schema_refuses_take_no_other_with_them():
    amounts = np.arange(100.0)
    amounts[[0, 41, 99]] = np.nan
    counts = np.zeros(100)
    counts[7] = 0.5
    (found,) = scored(batch(amounts, counts))
    assert [each.row for each in found.refused] == [0, 7, 41, 99]
    assert all(isinstance(each.error, InvalidValue) for each in found.refused)
    assert found.kept.tolist() == [row for row in range(100) if row not in {0, 7, 41, 99}]
    assert found.outputs["probability"].tolist() == [row / 2 for row in found.kept]


def test_rows_that_the_transformer_or_the_model_refuses_are_found_too():
    sites = ["here"] * 100
    sites[3] = "nowhere"
    (found,) = scored(batch(np.arange(100.0), sites=sites), runtime=HalfTheAmount(poison=70.0), most_rows=16)
    assert [(each.row, type(each.error)) for each in found.refused] == [(3, InvalidValue), (70, PredictionFailed)]
    assert "ZeroDivisionError: poison" in str(found.refused[1].error)
    assert len(found.kept) == len(found.outputs["probability"]) == 98
    assert 70 not in found.kept, "its neighbours of the same batch are answered, it is not"


class HalvingInPlace(HalfTheAmount):
    """Writes to its rows before it fails."""

    def predict(self, rows, parameters):
        rows.numbers[:, 0] /= 2
        if (rows.numbers[:, 0] * 2 == self.poison).any():
            raise ZeroDivisionError("poison")
        return {"half": rows.numbers[:, 0].copy()}


def test_rows_that_are_tried_again_are_as_they_were():
    (found,) = scored(batch(np.arange(100.0)), runtime=HalvingInPlace(poison=70.0), most_rows=16)
    assert [each.row for each in found.refused] == [70]
    assert found.outputs["half"].tolist() == [row / 2 for row in range(100) if row != 70]


def test_a_shadow_leaves_the_requests_rows_as_they_were():
    asked = batch([1.0, 2.0])
    found = pipeline_of(HalvingInPlace()).run(asked, ())
    assert found["half"].tolist() == [0.5, 1.0]
    assert asked.numbers[:, 0].tolist() == [1.0, 2.0]


def test_a_batch_of_which_nothing_can_be_scored_has_no_outputs():
    (found,) = scored(batch([np.inf, np.nan]))
    assert (len(found.outputs), len(found.kept), len(found.refused)) == (0, 0, 2)
    (found,) = scored(batch([5.0, 5.0]), runtime=HalfTheAmount(poison=5.0))
    assert (len(found.outputs), len(found.kept), len(found.refused)) == (0, 0, 2)


def test_an_empty_batch_is_one():
    (found,) = scored(batch([]))
    assert (len(found.kept), found.refused) == (0, [])
