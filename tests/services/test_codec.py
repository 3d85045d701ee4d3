"""Codecs on schemas that the example lacks: integers, booleans, texts, unnamed tensors; and on garbage."""

import json

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.core.codec import Body, MlflowCodec, PredictCodec, V1Codec, V2Codec
from services.inference.core.codec import v2 as module
from services.inference.core.errors import InvalidRequest, InvalidValue, MissingFeature
from services.inference.core.schema import DATATYPES, Feature, Kind, ModelInfo, ModelMetadata, Schema, TensorSpec
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
    outputs = (TensorSpec(name="prediction", datatype="INT64"), TensorSpec(name="probability", datatype="FP32"))
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
        assert plain(codec.decode(Body(body), model()).rows) == [[1.5, 3, 1, None, "NO"]], codec


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
            codec.decode(Body(orjson.dumps(body)), model())
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
        (2, ("items", "INT64", [1], [2**53 + 1])),
        (2, ("items", "UINT64", [1], [2**63 + 1])),
        (3, ("member", "INT64", [1], [2])),
        (4, ("age", "FP64", [0], [])),
        (4, ("age", "FP64", [-1], [1])),
        (4, ("age", "FP64", [2], [1, 2])),
    ],
)
def test_a_tensor_of_another_type_or_shape_is_refused_by_its_name(at, tensor):
    tensors = [*TENSORS[:at], tensor, *TENSORS[at + 1 :]]
    with pytest.raises(InvalidValue) as caught:
        V2Codec().decode(Body(v2(*tensors)), model())
    assert caught.value.field == tensor[0], str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400])
def test_a_model_of_floats_alone_takes_no_number_that_is_not_finite(value):
    floats = model(Schema((Feature(name="a"), Feature(name="b", nullable=True))))
    for name in ("a", "b"):
        body = json.dumps({"features": {"a": 1.0, "b": 2.0} | {name: value}, "note": float("nan")}).encode()
        with pytest.raises(InvalidValue) as caught:
            PredictCodec().decode(Body(body), floats)
        assert caught.value.field == name


@pytest.mark.parametrize("value", [True, False, "1", [1.0]])
def test_a_model_of_floats_alone_takes_nothing_for_a_number_that_is_none(value):
    floats = model(Schema((Feature(name="a"), Feature(name="b"))))
    rows = [[0.5, 1], [2, value]]
    named = [dict(zip("ab", row, strict=True)) for row in rows]
    for codec, body in (
        (PredictCodec(), orjson.dumps({"features": named})),
        (V1Codec(), orjson.dumps({"instances": rows})),
        (MlflowCodec(), orjson.dumps({"dataframe_split": {"columns": ["a", "b"], "data": rows}})),
        (V2Codec(), v2(("x", "FP32", [2, 2], [*rows[0], *rows[1]]))),
        (V2Codec(), v2(("a", "FP64", [2], [0.5, 2]), ("b", "FP64", [2], [1, value]))),
    ):
        with pytest.raises(InvalidValue, match="feature 'b'") as caught:
            codec.decode(Body(body), floats)
        assert caught.value.field == "b", codec


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT64", "UINT8"])
def test_numbers_of_every_type_are_what_the_body_says(datatype):
    spec = TensorSpec(name="x", datatype=datatype, shape=(-1, 2))
    given = [[0, 1], [2, 3]] if datatype[0] in "IU" else [[0, 0.1], [1, 65504]]
    rows = V2Codec().decode(Body(v2(("x", datatype, [2, 2], given))), model(Schema(tensors=(spec,)))).rows
    assert rows.blocks[0].dtype == spec.dtype
    assert rows.blocks[0].tolist() == np.array(given, spec.dtype).tolist()


def test_a_missing_feature_points_at_the_name_that_was_probably_meant():
    row = {("contry" if name == "country" else name): value for name, value in ROW.items()}
    with pytest.raises(MissingFeature, match="rename 'contry'"):
        PredictCodec().decode(Body(orjson.dumps({"features": row})), model())


def test_features_that_the_model_does_not_know_are_ignored():
    request = PredictCodec().decode(Body(orjson.dumps({"features": ROW | {"of the next release": 1}})), model())
    assert len(request.rows) == 1, "two releases with different features share one caller's traffic"


def test_parameters_are_kept_apart_from_the_rows_and_order_does_not_matter():
    first = V2Codec().decode(Body(v2(*TENSORS, parameters={"b": 1, "a": "x"})), model())
    second = V2Codec().decode(Body(v2(*TENSORS, parameters={"a": "x", "b": 1})), model())
    assert first.parameters == second.parameters == (("a", "x"), ("b", 1))


TENSOR_MODEL = Schema(
    tensors=(
        TensorSpec(name="ids", datatype="INT64", shape=(-1, 3)),
        TensorSpec(name="words", datatype="BYTES", shape=(-1, 2)),
    )
)
IDS = np.array([[1, 2, 3], [4, 5, 6]])
WORDS = [["a", "bc"], ["", "Ø"]]


def binary(*tensors, outputs=None, **more):
    """A body of the binary extension from (name, datatype, shape, bytes)."""
    inputs = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(data)}}
        for name, datatype, shape, data in tensors
    ]
    head = orjson.dumps({"inputs": inputs, **({"outputs": outputs} if outputs else {}), **more})
    return Body(head + b"".join(data for *_, data in tensors), len(head))


def strings(*values):
    return b"".join(len(value).to_bytes(4, "little") + value for value in (v.encode() for v in values))


def test_a_model_of_tensors_takes_the_same_values_as_json_flat_or_nested_and_as_bytes():
    bodies = [
        Body(v2(("ids", "INT64", [2, 3], IDS.ravel().tolist()), ("words", "BYTES", [2, 2], ["a", "bc", "", "Ø"]))),
        Body(v2(("words", "BYTES", [2, 2], WORDS), ("ids", "INT64", [2, 3], IDS.tolist()))),
        binary(("ids", "INT64", [2, 3], IDS.tobytes()), ("words", "BYTES", [2, 2], strings("a", "bc", "", "Ø"))),
    ]
    for body in bodies:
        ids, words = V2Codec().decode(body, model(TENSOR_MODEL)).rows.blocks
        assert ids.tolist() == IDS.tolist()
        assert words.tolist() == [[word.encode() for word in row] for row in WORDS]


@pytest.mark.parametrize("datatype", sorted(set(DATATYPES) - {"BYTES"}))
def test_every_datatype_travels_as_json_and_as_bytes(datatype):
    spec = TensorSpec(name="x", datatype=datatype, shape=(-1, 2))
    values = np.array([[0, 1], [1, 0]]).astype(spec.dtype)
    tensors = model(Schema(tensors=(spec,)))
    as_json = V2Codec().decode(Body(v2(("x", datatype, [2, 2], values.tolist()))), tensors)
    as_bytes = V2Codec().decode(binary(("x", datatype, [2, 2], values.tobytes())), tensors)
    for request in (as_json, as_bytes):
        assert request.rows.blocks[0].dtype == spec.dtype
        assert request.rows.blocks[0].tolist() == values.tolist()


def test_outputs_go_back_as_bytes_where_the_caller_asks_for_it():
    outputs = {"prediction": np.array([1, 0]), "probability": np.array([0.75, 0.25], dtype=np.float32)}
    chosen = [{"name": "probability", "parameters": {"binary_data": True}}, {"name": "prediction"}]
    tensors = [("amount", "FP64", [2], b"\0" * 16)]
    schema = Schema((Feature(name="amount"),))
    for body, expected in (
        (binary(*tensors, outputs=chosen), {"probability"}),
        (binary(*tensors, parameters={"binary_data_output": True}), {"probability", "prediction"}),
        (binary(*tensors), set()),
    ):
        request = V2Codec().decode(body, model(schema))
        assert request.binary == expected
        content, json_bytes, _ = V2Codec().encode(request, Response(id="", outputs=outputs, rows=2), model(schema))
        head = orjson.loads(content[:json_bytes])
        at = json_bytes
        for tensor in head["outputs"]:
            if tensor["name"] in expected:
                size = tensor["parameters"]["binary_data_size"]
                dtype = np.dtype(DATATYPES[tensor["datatype"]])
                assert np.frombuffer(content[at : at + size], dtype).tolist() == outputs[tensor["name"]].tolist()
                at += size
            else:
                assert tensor["data"] == outputs[tensor["name"]].tolist()
        assert at is None or at == len(content)


@pytest.mark.parametrize(
    "body",
    [
        binary(("ids", "INT64", [2, 3], b"\0" * 47), ("words", "BYTES", [2, 2], strings("a", "b", "c", "d"))),
        binary(("ids", "INT64", [2, 3], b"\0" * 48), ("words", "BYTES", [2, 2], strings("a", "b", "c"))),
        binary(("ids", "INT64", [2, 3], b"\0" * 48), ("words", "BYTES", [2, 2], strings("a", "b", "c", "d") + b"x")),
        binary(("ids", "INT64", [2, 3], b"\0" * 48), ("words", "BYTES", [2, 2], b"\xff\xff\xff\x7f")),
        binary(("ids", "INT32", [2, 3], b"\0" * 24), ("words", "BYTES", [2, 2], strings("a", "b", "c", "d"))),
        binary(("ids", "INT64", [1, 3], b"\0" * 24), ("words", "BYTES", [2, 2], strings("a", "b", "c", "d"))),
        binary(("ids", "INT64", [3, 2], b"\0" * 48), ("words", "BYTES", [3, 2], strings(*"abcdef"))),
        binary(("ids", "INT64", [2, 3], b"\0" * 48)),
        binary(
            ("ids", "INT64", [2, 3], b"\0" * 48), ("words", "BYTES", [2, 2], strings(*"abcd")), ("z", "BOOL", [1], b"1")
        ),
    ],
)  # fmt: skip
def test_binary_tensors_that_do_not_fit_are_refused_by_name(body):
    with pytest.raises(InvalidRequest) as caught:
        V2Codec().decode(body, model(TENSOR_MODEL))
    assert caught.value.field in ("ids", "words", "z"), str(caught.value)


def test_a_json_part_seen_before_is_read_as_it_was_the_first_time_whatever_the_values_are():
    codec, tensors = V2Codec(), model(TENSOR_MODEL)

    def ask(ids, words, **more):
        given = (("words", "BYTES", [1, 2], strings(*words)), ("ids", "INT64", [1, 3], np.array(ids).tobytes()))
        return codec.decode(binary(*given, outputs=[{"name": "prediction"}], **more), tensors)

    more = {"parameters": {"timeout": 5, "priority": 2, "top_k": 3}}
    first = ask([1, 2, 3], ("a", "bc"), **more)
    again = ask([4, 5, 6], ("de", "f"), **more)
    assert [block.tolist() for block in first.rows.blocks] == [[[1, 2, 3]], [[b"a", b"bc"]]]
    assert [block.tolist() for block in again.rows.blocks] == [[[4, 5, 6]], [[b"de", b"f"]]]
    for name in ("id", "parameters", "outputs", "binary", "timeout", "priority"):
        assert getattr(again, name) == getattr(first, name)
    assert [ask([1, 2, 3], ("a", "b"), id=name).id for name in ("x", "x", "y", "")] == ["x", "x", "y", ""]


def test_a_json_part_seen_before_checks_no_less():
    codec, plain_model = V2Codec(), model(Schema((Feature(name="amount"),)))
    fine = binary(("amount", "FP64", [1], np.array([1.5]).tobytes()))
    assert codec.decode(fine, plain_model).rows.numbers.tolist() == [[1.5]]
    length = fine.json_bytes
    for data, words in ((b"\0" * 7, "binary_data_size"), (b"\0" * 9, "left over"), (np.array([np.nan]), "amount")):
        with pytest.raises(InvalidRequest, match=words):
            codec.decode(Body(fine.content[:length] + bytes(data), length), plain_model)
    other = model(Schema((Feature(name="weight"),)))  # as after a swap: the same name, another schema
    with pytest.raises(MissingFeature, match="weight"):
        codec.decode(fine, other)


def test_json_parts_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "PLANS", 3)
    codec, known = V2Codec(), model(Schema((Feature(name="amount"),)))
    for timeout in range(1, 9):
        body = binary(("amount", "FP64", [1], np.array([timeout / 1.0]).tobytes()), parameters={"timeout": timeout})
        for _ in range(2):
            request = codec.decode(body, known)
            assert (request.timeout, request.rows.numbers.tolist()) == (timeout / 1e6, [[timeout]])
        assert len(codec.plans) <= 3


@pytest.mark.parametrize("json_bytes", [0, -1, 10_000])
def test_a_json_length_that_the_body_does_not_have_is_refused(json_bytes):
    with pytest.raises(InvalidRequest, match="Inference-Header-Content-Length"):
        V2Codec().decode(Body(v2(*TENSORS), json_bytes), model())


def test_bytes_behind_the_json_that_no_tensor_claims_are_refused():
    content, json_bytes, _ = binary(("amount", "FP64", [1], b"\0" * 8))
    with pytest.raises(InvalidRequest, match="left over"):
        V2Codec().decode(Body(content + b"\0", json_bytes), model(Schema((Feature(name="amount"),))))


def test_time_and_priority_are_tritons_parameters_and_not_the_models():
    more = {"parameters": {"timeout": 250_000, "priority": 1, "mode": "a"}}
    first = V2Codec().decode(Body(v2(*TENSORS, **more)), model())
    default = V2Codec().decode(Body(v2(*TENSORS)), model())
    later = V2Codec().decode(Body(v2(*TENSORS, parameters={"priority": 2})), model())
    assert (first.timeout, first.parameters, default.timeout) == (0.25, (("mode", "a"),), None)
    assert first.priority < later.priority < default.priority


def test_rows_of_tensors_are_nested_arrays_in_v1_and_predict():
    tensors = model(TENSOR_MODEL)
    rows = [{"ids": ids, "words": words} for ids, words in zip(IDS.tolist(), WORDS, strict=True)]
    for codec, key in ((V1Codec(), "instances"), (PredictCodec(), "features")):
        ids, words = codec.decode(Body(orjson.dumps({key: rows})), tensors).rows.blocks
        assert ids.tolist() == IDS.tolist()
        assert words[1, 1] == "Ø".encode()
        for wrong in (
            [{"ids": [1, 2, 3]}],
            [{"ids": [1, 2], "words": ["a", "b"]}],
            [{"ids": ["1", 2, 3], "words": ["a", "b"]}],
            [3],
        ):
            with pytest.raises(InvalidRequest):
                codec.decode(Body(orjson.dumps({key: wrong})), tensors)
    one = model(Schema(tensors=(TensorSpec(name="x", datatype="FP32", shape=(-1, 2)),)))
    request = V1Codec().decode(Body(orjson.dumps({"instances": [[1, 2], [3, 4.5]]})), one)
    assert request.rows.blocks[0].tolist() == [[1, 2], [3, 4.5]]


def test_answers_are_json_of_plain_numbers():
    outputs = {"prediction": np.array([1, 0]), "probability": np.array([0.75, 0.25], dtype=np.float32)}
    request = V1Codec().decode(Body(orjson.dumps({"instances": [ROW, ROW]})), model())
    response = Response(id="i", outputs=outputs, rows=2)
    assert json.loads(V1Codec().encode(request, response, model()).content)["predictions"] == [0.75, 0.25]
    answer = json.loads(V2Codec().encode(request, response, model()).content)
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
            rows = codec.decode(Body(text), model()).rows
        except InvalidRequest:
            continue
        assert len(rows) > 0
        finite = np.isfinite(rows.numbers) | (np.isnan(rows.numbers) & np.array([False, False, False, True]))
        assert finite.all(), "a value that the schema does not take got through"


@given(body=st.binary(max_size=60))
def test_any_bytes_are_refused_as_the_callers_fault(body):
    for codec in (PredictCodec(), V1Codec(), V2Codec()):
        with pytest.raises(InvalidRequest):
            codec.decode(Body(body), model())
