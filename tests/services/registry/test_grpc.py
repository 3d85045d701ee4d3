"""V2 over gRPC on the service's process, judged by HTTP's answers."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import services.inference.adapters.grpc as adapter
from services.contract import Env
from services.inference.adapters.grpc import grpc_predict_v2_pb2 as proto
from services.inference.adapters.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from services.inference.adapters.grpc.service import SERVICE
from tests.services import triton_calls

MODEL = "breast-cancer"
ROOT = Path(__file__).resolve().parents[3]
PROTO = "services/inference/adapters/grpc/grpc_predict_v2"


@pytest.fixture(scope="module")
def channel(service):
    with grpc.insecure_channel(service.grpc_target) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return GRPCInferenceServiceStub(channel)


def question(rows, **more):
    """A message with one raw tensor of all features."""
    tensor = proto.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=rows.shape)
    return proto.ModelInferRequest(
        **{"model_name": MODEL, "inputs": [tensor], "raw_input_contents": [rows.tobytes()], **more}
    )


def refusal(call, message, **options):
    """The error of a call that must not succeed."""
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=30, **options)
    return caught.value


def near(values):
    return pytest.approx(values, abs=1e-6, rel=1e-6)


def test_typed_contents_are_answered_in_kind_and_say_the_same_as_raw_ones(stub, rows):
    raw = stub.ModelInfer(question(rows))
    tensor = proto.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=rows.shape)
    tensor.contents.fp64_contents.extend(rows.ravel().tolist())
    typed = stub.ModelInfer(proto.ModelInferRequest(model_name=MODEL, inputs=[tensor]))
    assert not typed.raw_output_contents
    assert not any(output.HasField("contents") for output in raw.outputs), "one of the two, never both"
    assert [output.name for output in raw.outputs] == [output.name for output in typed.outputs]
    probability, prediction = (output.contents for output in typed.outputs)
    assert np.frombuffer(raw.raw_output_contents[0], "<f4").tolist() == list(probability.fp32_contents)
    assert np.frombuffer(raw.raw_output_contents[1], "<i8").tolist() == list(prediction.int64_contents)
    assert (raw.model_name, raw.model_version) == (MODEL, "1")


def test_raw_answers_are_those_of_http_bit_by_bit(stub, client, rows):
    data = rows.tobytes()
    tensor = {"name": "x", "shape": rows.shape, "datatype": "FP64", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    length = "inference-header-content-length"
    answer = client.post(f"/v2/models/{MODEL}/infer", content=head + data, headers={length: str(len(head))})
    over_grpc = b"".join(stub.ModelInfer(question(rows)).raw_output_contents)
    assert answer.content[int(answer.headers[length]) :] == over_grpc


def test_a_message_that_is_large_is_answered_like_a_small_one(serve, bundle, golden):
    large = serve({Env.MODEL_URI: bundle}).ready()
    many = np.array([list(golden[0]["features"].values())] * 4000)
    with grpc.insecure_channel(large.grpc_target) as channel:
        answer = GRPCInferenceServiceStub(channel).ModelInfer(question(many), timeout=60)
    probability = np.frombuffer(answer.raw_output_contents[0], "<f4")
    assert len(probability) == 4000
    assert probability == near(golden[0]["probability"])
    assert large.stop() == 0


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"inputs": [], "raw_input_contents": []}, "INVALID_ARGUMENT", "no 'inputs'"),
        ({"raw_input_contents": [b"\0" * 8]}, "INVALID_ARGUMENT", "input 'x': 8 bytes"),
        ({"raw_input_contents": [b"", b""]}, "INVALID_ARGUMENT", "2 raw_input_contents for 1 inputs"),
        ({"outputs": [{"name": "logits"}]}, "INVALID_ARGUMENT", "output 'logits'"),
        ({"parameters": {"timeout": proto.InferParameter(string_param="1s")}}, "INVALID_ARGUMENT", "'timeout'"),
        ({"parameters": {"mode": proto.InferParameter()}}, "INVALID_ARGUMENT", "parameter 'mode' has no value"),
        ({"id": "i" * 257}, "INVALID_ARGUMENT", "'id' has 257 characters"),
        ({"model_name": "other"}, "NOT_FOUND", "model 'other'"),
        ({"model_name": ""}, "NOT_FOUND", "model ''"),
        ({"model_version": "9"}, "NOT_FOUND", "version '9'"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(stub, rows, changes, code, said):
    error = refusal(stub.ModelInfer, question(rows, **changes))
    assert error.code() is grpc.StatusCode[code], error.details()
    assert said in error.details()
    assert error.details().count("→") == 2, "value → rule → remedy"


def test_a_message_beyond_the_limit_is_refused_also_where_it_is_compressed(stub, rows):
    large = question(rows, raw_input_contents=[bytes(300_000)])
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        error = refusal(stub.ModelInfer, large, compression=compression)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, compression


def test_bytes_that_are_no_message_are_the_callers_fault(channel):
    infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
    error = refusal(infer, b"\xff\xff\xff")
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be read" in error.details()


def test_every_answer_names_its_release_and_echoes_the_request_id(stub, rows):
    metadata = (("x-request-id", "abc-1"),)
    answer, call = stub.ModelInfer.with_call(question(rows), metadata=metadata)
    assert answer.id == "abc-1", "the metadata's id stands in for the message's"
    assert stub.ModelInfer(question(rows, id="mine"), metadata=metadata).id == "mine"
    error = refusal(stub.ModelInfer, question(rows, model_name="other"), metadata=metadata)
    for trailing in (dict(call.trailing_metadata()), dict(error.trailing_metadata())):
        assert trailing["x-request-id"] == "abc-1"
        assert trailing["x-model-version"] == "v7"
    _, call = stub.ServerLive.with_call(proto.ServerLiveRequest(), metadata=(("x-request-id", "two words"),))
    assert len(dict(call.trailing_metadata())["x-request-id"]) == 32, "an id that is none is replaced by one"


def test_calls_are_counted_by_their_status_and_probes_against_no_objective(stub, client, rows):
    def value(protocol, code):
        lines = client.get("/metrics").text.splitlines()
        found = [line for line in lines if line.startswith("slipway_requests_total{")]
        return sum(float(x.split()[-1]) for x in found if f'protocol="{protocol}"' in x and f'code="{code}"' in x)

    before = [value("grpc", 200), value("grpc", 404), value("grpc", 400)]
    stub.ModelInfer(question(rows))
    refusal(stub.ModelInfer, question(rows, model_name="other"))
    refusal(stub.ModelInfer, question(rows[:, :3]))
    stub.ServerReady(proto.ServerReadyRequest())
    after = [value("grpc", 200), value("grpc", 404), value("grpc", 400)]
    assert after == [count + 1 for count in before]


def test_health_is_served_for_the_server_and_its_service(channel):
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", SERVICE):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, name
    error = refusal(health.Check, health_pb2.HealthCheckRequest(service="other"))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    watched = health.Watch(health_pb2.HealthCheckRequest(service="other"), timeout=30)
    assert next(watched).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watched.cancel()


def test_reflection_lists_the_services_and_gives_their_messages(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    assert {SERVICE, "grpc.health.v1.Health"} <= set(database.get_services())
    file = database.FindFileContainingSymbol(SERVICE)
    assert file.name == f"{PROTO}.proto"


def test_a_watcher_hears_of_the_signal_to_stop_and_does_not_hold_it_up(serve, bundle):
    service = serve({Env.MODEL_URI: bundle, Env.DRAIN_SECONDS: 60}).ready()
    with grpc.insecure_channel(service.grpc_target) as channel:
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        started = time.monotonic()
        service.signal(signal.SIGTERM)
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert list(watched) == [], "the server ends the stream"
        assert service.wait(30) == 0
    assert time.monotonic() - started < 30, "an open stream did not use up the grace period"
    assert service.stderr.read_text() == ""


def test_a_port_that_is_taken_is_named(serve, bundle):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = serve({Env.MODEL_URI: bundle, Env.GRPC_PORT: port})
        assert service.wait() == 1
    stderr = service.stderr.read_text()
    assert stderr.startswith(f"slipway: port 127.0.0.1:{port}: Address already in use"), stderr
    assert "SLIPWAY_GRPC_PORT" in stderr
    assert len(stderr.splitlines()) == 1, f"one clear line:\n{stderr}"
    assert service.termination_log.read_text() == stderr


def test_a_port_of_another_slipway_is_taken(serve, service, bundle):
    second = serve({Env.MODEL_URI: bundle, Env.GRPC_PORT: service.grpc_target.rpartition(":")[2]})
    assert second.wait() == 1, "two processes on one port would each get half of the calls"


def test_the_generated_modules_are_made_of_the_proto(tmp_path):
    command = adapter.__doc__.partition("python -m ")[2].replace("\\\n", "").replace("_out=.", f"_out={tmp_path}")
    subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, check=True, timeout=60)
    for name in (f"{PROTO}_pb2.py", f"{PROTO}_pb2.pyi", f"{PROTO}_pb2_grpc.py"):
        assert (tmp_path / name).read_text() == (ROOT / name).read_text(), f"run the command of {adapter.__name__}"


def test_the_proto_agrees_with_tritons_field_for_field():
    with triton_calls.process() as process:
        theirs = process.submit(triton_calls.fields).result(120)
    for message, fields in triton_calls.fields_of(proto.DESCRIPTOR).items():
        if not message.startswith("inference.Repository"):  # KServe's are simpler than Triton's
            assert fields == theirs[message], message
