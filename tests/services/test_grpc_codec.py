"""The codec of gRPC on models that the example lacks: tensors of every datatype, texts; and on garbage."""

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.adapters.grpc.codec import FIELDS, GrpcCodec, Inquiry
from services.inference.adapters.grpc.grpc_predict_v2_pb2 import InferParameter, InferTensorContents, ModelInferRequest
from services.inference.core.errors import InvalidRequest
from services.inference.core.schema import DATATYPES, Feature, Kind, ModelInfo, ModelMetadata, Schema, TensorSpec
from services.inference.core.types import Response

TYPED = sorted(FIELDS)
IDS = np.array([[1, 2, 3], [4, 5, 6]])
TENSORS = Schema(
    tensors=(
        TensorSpec(name="ids", datatype="INT64", shape=(-1, 3)),
        TensorSpec(name="words", datatype="BYTES", shape=(-1, 2)),
    )
)
FEATURES = Schema(
    (
        Feature(name="amount"),
        Feature(name="country", kind=Kind.TEXT),
        Feature(name="member", kind=Kind.BOOLEAN),
        Feature(name="age", nullable=True),
    )
)


def model(schema, *outputs):
    given = outputs or (
        TensorSpec(name="prediction", datatype="INT64"),
        TensorSpec(name="probability", datatype="FP32"),
    )
    metadata = ModelMetadata(platform="test", schema=schema, outputs=given, score=given[0].name, example=schema.zeros())
    return ModelInfo(name="m", version="1", release="r", digest="sha256:0", metadata=metadata)


def values_of(datatype):
    """[2, 2] values at the edges of a datatype."""
    if datatype == "BYTES":
        return np.array([[b"a", b""], [b"\xff\0", "Ø".encode()]], dtype=object)
    dtype = np.dtype(DATATYPES[datatype])
    if datatype == "BOOL":
        return np.array([[True, False], [False, True]])
    edges = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    return np.array([[0, 1], [edges.min, edges.max]], dtype=dtype)


def raw_bytes(values):
    if values.dtype != object:
        return values.tobytes()
    return b"".join(len(value).to_bytes(4, "little") + value for value in values.ravel())


def message(*tensors, raw=False, **more):
    """A request of (name, datatype, array)."""
    built = ModelInferRequest(model_name="m", **more)
    for name, datatype, values in tensors:
        tensor = built.inputs.add(name=name, datatype=datatype, shape=values.shape)
        if raw:
            built.raw_input_contents.append(raw_bytes(values))
        else:
            getattr(tensor.contents, FIELDS[datatype]).extend(values.ravel().tolist())
    return built


def decode(message, schema, seconds=None):
    return GrpcCodec().decode(Inquiry(message, seconds), model(schema))


def refusal(message, schema):
    with pytest.raises(InvalidRequest) as caught:
        decode(message, schema)
    return caught.value


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
def test_every_datatype_travels_raw(datatype):
    values = values_of(datatype)
    schema = Schema(tensors=(TensorSpec(name="x", datatype=datatype, shape=(-1, 2)),))
    [block] = decode(message(("x", datatype, values), raw=True), schema).rows.blocks
    assert block.dtype == values.dtype
    assert block.tolist() == values.tolist()


@pytest.mark.parametrize("datatype", TYPED)
def test_every_datatype_but_fp16_travels_typed(datatype):
    values = values_of(datatype)
    schema = Schema(tensors=(TensorSpec(name="x", datatype=datatype, shape=(-1, 2)),))
    [block] = decode(message(("x", datatype, values)), schema).rows.blocks
    assert block.dtype == values.dtype
    assert block.tolist() == values.tolist()


def test_fp16_has_no_field_and_is_told_the_other_way():
    schema = Schema(tensors=(TensorSpec(name="x", datatype="FP16", shape=(-1,)),))
    built = ModelInferRequest(inputs=[{"name": "x", "datatype": "FP16", "shape": [1]}])
    built.inputs[0].contents.fp32_contents.append(1)
    error = refusal(built, schema)
    assert error.field == "x"
    assert "raw_input_contents" in str(error)


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
def test_answers_of_every_datatype_go_as_the_question_came(datatype, raw):
    values = values_of(datatype)
    described = model(Schema((Feature(name="amount"),)), TensorSpec(name="y", datatype=datatype, shape=(-1, 2)))
    codec = GrpcCodec()
    request = codec.decode(Inquiry(message(("amount", "FP64", np.ones(2)), raw=raw)), described)
    answer = codec.encode(request, Response(id="7", outputs={"y": values}, rows=2), described)
    [output] = answer.outputs
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "1", "7")
    assert (output.name, output.datatype, list(output.shape)) == ("y", datatype, [2, 2])
    if raw or datatype == "FP16":
        assert list(answer.raw_output_contents) == [raw_bytes(values)], "FP16 has no other way"
        assert not output.HasField("contents")
    else:
        assert list(getattr(output.contents, FIELDS[datatype])) == values.ravel().tolist()
        assert not answer.raw_output_contents


def test_outputs_come_in_the_order_asked_for_and_texts_as_utf_8():
    outputs = {"label": np.array(["Ø", "b"], dtype=object), "score": np.array([0.5, 0.25], dtype=np.float32)}
    described = model(
        Schema((Feature(name="amount"),)),
        TensorSpec(name="label", datatype="BYTES"),
        TensorSpec(name="score", datatype="FP32"),
    )
    asked = message(("amount", "FP64", np.ones(2)), outputs=[{"name": "score"}, {"name": "label"}])
    request = GrpcCodec().decode(Inquiry(asked), described)
    answer = GrpcCodec().encode(request, Response(id="", outputs=outputs, rows=2), described)
    assert [output.name for output in answer.outputs] == ["score", "label"]
    assert list(answer.outputs[1].contents.bytes_contents) == ["Ø".encode(), b"b"]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
def test_a_model_of_features_takes_a_tensor_each_with_nan_for_a_missing_value(raw):
    tensors = (
        ("amount", "FP32", np.array([1.5], dtype=np.float32)),
        ("country", "BYTES", np.array([b"NO"], dtype=object)),
        ("member", "BOOL", np.array([True])),
        ("age", "FP64", np.array([np.nan])),
    )
    rows = decode(message(*tensors, raw=raw), FEATURES).rows
    assert rows.numbers[0, :2].tolist() == [1.5, 1]
    assert np.isnan(rows.numbers[0, 2])
    assert rows.texts.tolist() == [["NO"]]
    tensors = (("amount", "FP64", np.array([np.nan])), *tensors[1:])
    assert refusal(message(*tensors, raw=raw), FEATURES).field == "amount", "this feature may not be missing"


def other_type(asked):
    asked.inputs[0].datatype = "INT32"
    asked.inputs[0].contents.CopyFrom(InferTensorContents(int_contents=range(6)))


@pytest.mark.parametrize(
    ("raw", "spoil", "field", "said"),
    [
        (False, lambda m: m.inputs[0].contents.fp64_contents.append(1), "ids", "values of INT64 are in int64_contents"),
        (False, lambda m: m.inputs[0].contents.int64_contents.pop(), "ids", "shape [2, 3] and 5 values"),
        (False, lambda m: m.inputs[1].ClearField("contents"), "words", "shape [2, 2] and 0 values"),
        (False, lambda m: m.inputs[0].shape.pop(), "ids", "shape [2] and 6 values"),
        (False, lambda m: m.inputs[0].shape.append(0), "ids", "positive integers"),
        (False, lambda m: m.inputs[0].ClearField("shape"), "ids", "shape is []"),
        (False, lambda m: setattr(m.inputs[0], "datatype", "BF16"), "ids", "'BF16'"),
        (False, other_type, "ids", "the model takes INT64"),
        (False, lambda m: m.raw_input_contents.append(b"x"), "ids", "contents beside raw_input_contents"),
        (True, lambda m: m.inputs[1].contents.bytes_contents.append(b"x"), "words", "beside raw_input_contents"),
        (True, lambda m: m.raw_input_contents.pop(), "words", "1 raw_input_contents for 2 inputs"),
        (True, lambda m: m.raw_input_contents.append(b""), "words", "3 raw_input_contents for 2 inputs"),
        (True, lambda m: m.raw_input_contents.insert(0, b"\0" * 47), "words", "3 raw_input_contents"),
        (True, lambda m: m.inputs[0].shape.append(2), "ids", "48 bytes for shape [2, 3, 2]"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_by_its_name(raw, spoil, field, said):
    words = np.array([[b"a", b"b"], [b"c", b"d"]], dtype=object)
    asked = message(("ids", "INT64", IDS), ("words", "BYTES", words), raw=raw)
    spoil(asked)
    error = refusal(asked, TENSORS)
    assert error.field == field, str(error)
    assert said in str(error)


@pytest.mark.parametrize(("datatype", "value"), [("INT8", 128), ("INT16", -40000), ("UINT8", 256), ("UINT16", 1 << 16)])
def test_a_value_beyond_the_datatype_is_refused_not_wrapped(datatype, value):
    schema = Schema(tensors=(TensorSpec(name="x", datatype=datatype, shape=(-1,)),))
    error = refusal(message(("x", datatype, np.array([value]))), schema)
    assert error.field == "x"
    assert "out of range" in str(error)


def test_a_call_waits_as_long_as_its_deadline_and_its_parameter_both_allow():
    tensor = ("ids", "INT64", IDS), ("words", "BYTES", np.array([[b"a", b"b"]] * 2, dtype=object))

    def timeout(seconds, **parameters):
        return decode(message(*tensor, raw=True, parameters=parameters), TENSORS, seconds).timeout

    quarter = InferParameter(int64_param=250_000)
    assert timeout(None) is None
    assert timeout(3.0) == 3.0
    assert timeout(None, timeout=quarter) == 0.25
    assert timeout(3.0, timeout=quarter) == 0.25
    assert timeout(0.1, timeout=quarter) == 0.1


def test_parameters_of_every_kind_reach_the_model_and_tritons_own_do_not():
    parameters = {
        "flag": InferParameter(bool_param=True),
        "count": InferParameter(int64_param=-3),
        "big": InferParameter(uint64_param=2**63),
        "rate": InferParameter(double_param=0.5),
        "mode": InferParameter(string_param="a"),
        "priority": InferParameter(uint64_param=1),
    }
    tensor = ("ids", "INT64", IDS), ("words", "BYTES", np.array([[b"a", b"b"]] * 2, dtype=object))
    request = decode(message(*tensor, parameters=parameters, id="i"), TENSORS)
    assert dict(request.parameters) == {"flag": True, "count": -3, "big": 2**63, "rate": 0.5, "mode": "a"}
    assert request.priority < 0, "what asks to go first goes before what does not ask"
    assert request.id == "i"


tensors = st.builds(
    ModelInferRequest.InferInputTensor,
    name=st.sampled_from(["ids", "words", "amount", "age", "x"]),
    datatype=st.sampled_from([*DATATYPES, "BF16", ""]),
    shape=st.lists(st.integers(-1, 4), max_size=3),
    contents=st.none()
    | st.builds(
        InferTensorContents,
        bool_contents=st.lists(st.booleans(), max_size=2),
        int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
        fp64_contents=st.lists(st.floats(), max_size=4),
        bytes_contents=st.lists(st.binary(max_size=3), max_size=4),
    ),
)
messages = st.builds(
    ModelInferRequest,
    inputs=st.lists(tensors, max_size=4),
    raw_input_contents=st.just([]) | st.lists(st.binary(max_size=24), max_size=4),
    parameters=st.dictionaries(
        st.sampled_from(["timeout", "priority", "a"]),
        st.builds(InferParameter, int64_param=st.integers(-5, 5)) | st.builds(InferParameter),
        max_size=2,
    ),
)


@settings(max_examples=300, deadline=None)
@given(asked=messages)
def test_any_message_is_read_or_refused_and_never_fails_otherwise(asked):
    for schema in (TENSORS, FEATURES, Schema((Feature(name="amount"),))):
        try:
            rows = decode(asked, schema).rows
        except InvalidRequest:
            continue
        assert len(rows) > 0


@given(body=st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(body):
    try:
        asked = ModelInferRequest.FromString(body)
    except DecodeError:
        return
    with pytest.raises(InvalidRequest):
        decode(asked, TENSORS)
