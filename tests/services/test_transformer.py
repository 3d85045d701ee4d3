"""The declarative transformer against a plain reading of its definition."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.core.errors import InvalidArtifact, InvalidValue
from services.inference.core.transformer import CategoryColumn, NumericColumn, Transformer
from services.inference.core.types import Rows

numbers = st.floats(-1e6, 1e6)


@given(value=st.one_of(st.none(), numbers), impute=numbers, low=numbers, high=numbers, mean=numbers)
def test_a_number_is_imputed_then_clipped_then_scaled(value, impute, low, high, mean):
    low, high = sorted((low, high))
    column = NumericColumn(name="a", impute=impute, clip=(low, high), mean=mean, scale=2.0)
    given_value = math.nan if value is None else value
    result = Transformer(columns=(column,)).apply(Rows(np.array([[given_value]])))
    taken = impute if value is None else value
    expected = np.float32((min(max(taken, low), high) - mean) / 2.0)
    assert result.numbers[0, 0] == expected
    assert result.numbers.dtype == np.float32, "what the module takes"


def row(number, text):
    texts = np.empty((1, 1), dtype=object)
    texts[0, 0] = text
    return Rows(np.array([[number]]), texts)


def test_a_category_becomes_a_column_each_and_an_unknown_one_is_refused_by_name():
    column = CategoryColumn(name="colour", categories=("red", "blue"), impute="blue")
    transformer = Transformer(columns=(column, NumericColumn(name="size")))
    assert transformer.apply(row(5.0, "red")).numbers.tolist() == [[5, 1, 0]]
    assert transformer.apply(row(5.0, None)).numbers.tolist() == [[5, 0, 1]], "null is the imputed category"
    with pytest.raises(InvalidValue, match="feature 'colour' is 'green'") as caught:
        transformer.apply(row(5.0, "green"))
    assert caught.value.field == "colour"


def test_an_unknown_category_may_be_zeros_where_training_said_so():
    column = CategoryColumn(name="colour", categories=("red", "blue"), unknown="zeros")
    transformer = Transformer(columns=(NumericColumn(name="size"), column))
    assert transformer.apply(row(5.0, "green")).numbers.tolist() == [[5, 0, 0]]


def test_what_is_written_reads_the_same(tmp_path):
    transformer = Transformer(
        columns=(NumericColumn(name="a", impute=1.1, clip=(0, 2)), CategoryColumn(name="b", categories=("x",)))
    )
    (tmp_path / "transformer.json").write_text(transformer.dump())
    assert Transformer.read(tmp_path / "transformer.json") == transformer


@pytest.mark.parametrize(
    ("columns", "where"),
    [
        ([], "columns"),
        ([{"name": "a", "kind": "python", "code": "import os"}], "columns.0"),
        ([{"name": "a", "kind": "numeric", "scale": 0}], "columns.0.numeric.scale"),
        ([{"name": "a", "kind": "numeric", "clip": [2, 1]}], "columns.0.numeric"),
        ([{"name": "a", "kind": "numeric", "mean": "NaN"}], "columns.0.numeric.mean"),
        ([{"name": "a", "kind": "numeric", "extra": 1}], "columns.0.numeric.extra"),
    ],
)
def test_a_definition_that_cannot_be_applied_is_refused_when_read(tmp_path, columns, where):
    path = tmp_path / "transformer.json"
    path.write_text(json.dumps({"format": "slipway-transformer/1", "columns": columns}))
    with pytest.raises(InvalidArtifact, match=rf"^transformer\.json: {where}: "):
        Transformer.read(path)
