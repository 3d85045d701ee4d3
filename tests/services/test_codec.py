"""Codecs on schemas that the example lacks: integers, booleans, texts, unnamed tensors; and on garbage."""

import json

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.core.codec import PredictCodec, V1Codec, V2Codec
from services.inference.core.errors import InvalidRequest, InvalidValue, MissingFeature
from services.inference.core.schema import Feature, Kind, ModelInfo, ModelMetadata, Output, Schema
from services.inference.core.types import Response

SCHEMA = Schema(
    (
        Feature(name="amount"),
        Feature(name="country", kind=Kind.TEXT),
        Feature(name="items", kind=Kind.INTEGER),
        Feature(name="member", kind=Kind.BOOLEAN),
        Feature(name="age", nullable=True),
    )
)
ROW = {"amount": 1.5, "country": "NO", "items": 3, "member": True, "age": None}


def model(schema=SCHEMA):
    outputs = (Output(name="prediction", datatype="INT64"), Output(name="probability", datatype="FP32"))
    metadata = ModelMetadata(
        platform="test", schema=schema, outputs=outputs, score="probability", threshold=0.5, example=schema.zeros()
    )
    return ModelInfo(name="m", version="1", release="r", digest="sha256:0", metadata=metadata)


def plain(rows):
    return [
        [None if np.isnan(value) else float(value) for value in numbers] + list(texts)
        for numbers, texts in zip(rows.numbers, rows.texts, strict=True)
    ]


def v2(*tensors, **more):
    names = ("name", "datatype", "shape", "data")
    return orjson.dumps({"inputs": [dict(zip(names, tensor, strict=True)) for tensor in tensors], **more})


TENSORS = (
    ("amount", "FP64", [1], [1.5]),
    ("country", "BYTES", [1], ["NO"]),
    ("items", "INT64", [1, 1], [3]),
    ("member", "BOOL", [1], [True]),
    ("age", "FP32", [1], [None]),
)


def test_all_protocols_read_the_same_row_alike():
    bodies = [
        (PredictCodec(), orjson.dumps({"features": ROW})),
        (V1Codec(), orjson.dumps({"instances": [ROW]})),
        (V1Codec(), orjson.dumps({"instances": [list(ROW.values())]})),
        (V2Codec(), v2(*TENSORS)),
    ]
    for codec, body in bodies:
        assert plain(codec.decode(body, model()).rows) == [[1.5, 3, 1, None, "NO"]], codec


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("items", 1.5), ("items", "3"), ("items", 2**53 + 2), ("items", True), ("items", None),
        ("member", 1), ("member", "true"), ("country", 7), ("country", None), ("amount", None),
        ("amount", "1"), ("amount", False), ("age", "old"), ("age", [1]),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_by_its_name(name, value):
    for codec, body in (
        (PredictCodec(), {"features": ROW | {name: value}}),
        (V1Codec(), {"instances": [list((ROW | {name: value}).values())]}),
    ):
        with pytest.raises(InvalidValue, match=f"feature '{name}'") as caught:
            codec.decode(orjson.dumps(body), model())
        assert caught.value.field == name


@pytest.mark.parametrize(
    ("at", "tensor"),
    [
        (0, ("amount", "BYTES", [1], ["1.5"])),
        (0, ("amount", "FP64", [2], [1.5])),
        (0, ("amount", "FP64", [1], ["1.5"])),
        (0, ("amount", "FP32", [1], [1e300])),
        (1, ("country", "FP64", [1], [1])),
        (1, ("country", "BYTES", [1], [7])),
        (2, ("items", "INT8", [1], [1000])),
        (2, ("items", "INT64", [1], [1.5])),
        (2, ("items", "FP64", [1], [1.5])),
        (3, ("member", "INT64", [1], [2])),
        (4, ("age", "FP64", [0], [])),
        (4, ("age", "FP64", [-1], [1])),
        (4, ("age", "FP64", [2], [1, 2])),
    ],
)
def test_a_tensor_of_another_type_or_shape_is_refused_by_its_name(at, tensor):
    tensors = [*TENSORS[:at], tensor, *TENSORS[at + 1 :]]
    with pytest.raises(InvalidValue) as caught:
        V2Codec().decode(v2(*tensors), model())
    assert caught.value.field == tensor[0], str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400])
def test_a_model_of_floats_alone_takes_no_number_that_is_not_finite(value):
    floats = model(Schema((Feature(name="a"), Feature(name="b", nullable=True))))
    for name in ("a", "b"):
        body = json.dumps({"features": {"a": 1.0, "b": 2.0} | {name: value}, "note": float("nan")}).encode()
        with pytest.raises(InvalidValue) as caught:
            PredictCodec().decode(body, floats)
        assert caught.value.field == name


def test_a_missing_feature_points_at_the_name_that_was_probably_meant():
    row = {("contry" if name == "country" else name): value for name, value in ROW.items()}
    with pytest.raises(MissingFeature, match="rename 'contry'"):
        PredictCodec().decode(orjson.dumps({"features": row}), model())


def test_features_that_the_model_does_not_know_are_ignored():
    request = PredictCodec().decode(orjson.dumps({"features": ROW | {"of the next release": 1}}), model())
    assert len(request.rows) == 1, "two releases with different features share one caller's traffic"


def test_parameters_are_kept_apart_from_the_rows_and_order_does_not_matter():
    first = V2Codec().decode(v2(*TENSORS, parameters={"b": 1, "a": "x"}), model())
    second = V2Codec().decode(v2(*TENSORS, parameters={"a": "x", "b": 1}), model())
    assert first.parameters == second.parameters == (("a", "x"), ("b", 1))


def test_binary_data_is_refused_and_not_misread():
    with pytest.raises(InvalidValue, match="binary_data_output"):
        V2Codec().decode(v2(*TENSORS, parameters={"binary_data_output": True}), model())


def test_a_model_without_names_takes_its_tensor():
    schema = Schema((Feature(name="x_0"), Feature(name="x_1")), tensor="x")
    request = V2Codec().decode(v2(("x", "INT32", [2, 2], [[1, 2], [3, 4]])), model(schema))
    assert request.rows.numbers.tolist() == [[1, 2], [3, 4]]


def test_answers_are_json_of_plain_numbers():
    outputs = {"prediction": np.array([1, 0]), "probability": np.array([0.75, 0.25], dtype=np.float32)}
    request = V1Codec().decode(orjson.dumps({"instances": [ROW, ROW]}), model())
    response = Response(id="i", outputs=outputs, rows=2)
    assert json.loads(V1Codec().encode(request, response, model()))["predictions"] == [0.75, 0.25]
    answer = json.loads(V2Codec().encode(request, response, model()))
    assert [tensor["data"] for tensor in answer["outputs"]] == [[1, 0], [0.75, 0.25]]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
odd_rows = st.fixed_dictionaries(dict.fromkeys(ROW, json_values))
odd_tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from([*ROW, "x"]) | json_values,
        "shape": st.lists(st.integers(-1, 6), max_size=3) | json_values,
        "datatype": st.sampled_from(["FP64", "BYTES", "BOOL", "INT8", "UINT64", "FP16"]) | json_values,
        "data": st.lists(json_values, max_size=6) | json_values,
        "parameters": json_values,
    },
)
bodies = st.one_of(
    json_values,
    st.fixed_dictionaries({"features": odd_rows | st.lists(odd_rows | json_values, max_size=3) | json_values}),
    st.fixed_dictionaries({"instances": st.lists(odd_rows | json_values, max_size=3) | json_values}),
    st.fixed_dictionaries(
        {"inputs": st.lists(odd_tensors | json_values, max_size=6)},
        optional={"outputs": json_values, "parameters": json_values, "id": json_values},
    ),
)


@settings(max_examples=400, deadline=None)
@given(body=bodies)
def test_any_json_is_read_or_refused_and_never_fails_otherwise(body):
    text = json.dumps(body).encode()
    for codec in (PredictCodec(), V1Codec(), V2Codec()):
        try:
            rows = codec.decode(text, model()).rows
        except InvalidRequest:
            continue
        assert len(rows) > 0
        finite = np.isfinite(rows.numbers) | (np.isnan(rows.numbers) & np.array([False, False, False, True]))
        assert finite.all(), "a value that the schema does not take got through"


@given(body=st.binary(max_size=60))
def test_any_bytes_are_refused_as_the_callers_fault(body):
    for codec in (PredictCodec(), V1Codec(), V2Codec()):
        with pytest.raises(InvalidRequest):
            codec.decode(body, model())
