"""The prediction log, to real sinks: a file, the environment's S3 gateway and librdkafka's own broker."""

import gzip
import json
import threading
import time
from types import SimpleNamespace

import boto3
import numpy as np
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from services.inference.adapters.telemetry import prediction_log as module
from services.inference.adapters.telemetry import sinks
from services.inference.adapters.telemetry.prediction_log import PredictionLog, SinkError
from services.inference.adapters.telemetry.sinks import FileSink, KafkaSink, S3Sink, sink
from services.inference.core.schema import Feature, Kind, ModelInfo, ModelMetadata, Schema, TensorSpec
from services.inference.core.types import Request, Response, Rows

FEATURES = Schema((Feature(name="amount"), Feature(name="name", kind=Kind.TEXT), Feature(name="age", nullable=True)))


def pipeline(schema=FEATURES):
    outputs = (TensorSpec(name="score", datatype="FP32"),)
    metadata = ModelMetadata(platform="t", schema=schema, outputs=outputs, score="score", example=schema.zeros())
    return SimpleNamespace(info=ModelInfo(name="fraud", version="7", release="v7", digest="", metadata=metadata))


ROWS = Rows(np.array([[12.5, np.nan], [1.0, 30.0]]), np.array([["Ann"], ["Bo"]], dtype=object))
OUTPUTS = {"score": np.array([0.25, 0.75], dtype=np.float32)}


class Told:
    def __init__(self):
        self.counts = {}
        self._lock = threading.Lock()

    def logged(self, model, rows, result):
        assert model == "fraud"
        with self._lock:
            self.counts[result] = self.counts.get(result, 0) + rows


def log(to, told=None, **options):
    return PredictionLog(to, told or Told(), model="fraud", **{"share": 1.0, **options})


def see(log, *ids, rows=ROWS, outputs=OUTPUTS, schema=FEATURES):
    for each in ids:
        log.see(pipeline(schema), Request(rows=rows), Response(id=each, outputs=outputs, rows=len(rows)))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_row_is_a_line_with_what_was_asked_and_answered(tmp_path):
    told = Told()
    to = log(FileSink(tmp_path / "p.jsonl"), told)
    see(to, "a")
    to.close(10)
    first, second = lines(tmp_path / "p.jsonl")
    assert first.pop("timestamp").endswith("+00:00")
    assert first == {
        "request_id": "a", "row": 0, "model": "fraud", "version": "7", "release": "v7",
        "inputs": {"amount": 12.5, "name": "Ann", "age": None}, "outputs": {"score": 0.25},
    }  # fmt: skip
    assert (second["row"], second["inputs"]["age"], second["outputs"]) == (1, 30.0, {"score": 0.75})
    assert told.counts == {"written": 2}


def test_redacted_inputs_are_nowhere_in_it_and_their_names_are_told(tmp_path, caplog):
    to = log(FileSink(tmp_path / "p.jsonl"), redacted=frozenset({"name", "nmae"}))
    see(to, "a")
    to.close(10)
    text = (tmp_path / "p.jsonl").read_text()
    assert "Ann" not in text
    assert [line["redacted"] for line in lines(tmp_path / "p.jsonl")] == [["name"]] * 2


def test_tensors_are_logged_by_name_and_what_is_too_long_is_left_out(tmp_path):
    told = Told()
    schema = Schema(tensors=(TensorSpec(name="x", datatype="FP32", shape=(-1, 2)),))
    large = Schema(tensors=(TensorSpec(name="x", datatype="FP32", shape=(-1, module.LINE_BYTES)),))
    to = log(FileSink(tmp_path / "p.jsonl"), told)
    see(to, "a", rows=Rows(np.array([[1, 2], [3, 4]], dtype=np.float32)), schema=schema)
    see(to, "b", rows=Rows(np.zeros((2, module.LINE_BYTES), dtype=np.float32)), schema=large)
    to.close(30)
    assert [line["inputs"] for line in lines(tmp_path / "p.jsonl")] == [{"x": [1, 2]}, {"x": [3, 4]}]
    assert told.counts == {"written": 2, "oversized": 2}


def test_the_share_is_kept_and_every_release_logs_the_same_requests(tmp_path):
    ids = [f"request-{number}" for number in range(2000)]
    chosen = []
    for name in ("v1", "v2"):
        to = log(FileSink(tmp_path / name), share=0.1)
        see(to, *ids)
        to.close(20)
        chosen.append([line["request_id"] for line in lines(tmp_path / name)])
    assert chosen[0] == chosen[1]
    assert len(set(chosen[0])) == pytest.approx(200, rel=0.3)
    none = log(FileSink(tmp_path / "none"), share=0.0)
    see(none, *ids)
    none.close(10)
    assert lines(tmp_path / "none") == []


class Stuck:
    """A sink whose writes wait; then it fails once."""

    def __init__(self):
        self.gate = threading.Event()
        self.taken = []

    def write(self, key, line):
        assert self.gate.wait(20)
        self.taken.append(key)
        if len(self.taken) == 1:
            raise SinkError("it is full", 1)
        return 1

    def flush(self):
        return 0

    close = flush


def test_a_sink_that_is_stuck_holds_nobody_up_and_every_row_is_accounted_for(monkeypatch):
    monkeypatch.setattr(module, "WAITING_ROWS", 10)
    told, stuck = Told(), Stuck()
    to = log(stuck, told)
    started = time.monotonic()
    see(to, *"abcdefgh")
    assert time.monotonic() - started < 5
    assert told.counts == {"dropped": 6}
    stuck.gate.set()
    to.close(20)
    assert told.counts == {"dropped": 6, "failed": 1, "written": 9}


def test_a_file_that_is_full_makes_room_and_the_newest_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "FILE_BYTES", 100)
    to = FileSink(tmp_path / "p")
    written = sum(to.write("", b"%04d" % number + b"." * 40) for number in range(20)) + to.close()
    assert written == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p", "p.1", "p.2", "p.3"]
    kept = b"".join((tmp_path / name).read_bytes() for name in ("p.3", "p.2", "p.1", "p")).splitlines()
    assert [int(line[:4]) for line in kept] == list(range(12, 20))


def test_a_file_that_is_there_is_continued(tmp_path):
    for number in range(2):
        to = FileSink(tmp_path / "p")
        to.write("", b"%d" % number)
        to.close()
    assert (tmp_path / "p").read_bytes() == b"0\n1\n"


@pytest.fixture
def bucket(gateway, credentials):
    """The endpoint's URL, and a client of it with a bucket `logs`."""
    client = boto3.client("s3", endpoint_url=gateway)
    if not any(bucket["Name"] == "logs" for bucket in client.list_buckets()["Buckets"]):
        client.create_bucket(Bucket="logs")
    yield gateway, client
    client.close()


def objects(client, prefix):
    keys = [each["Key"] for each in client.list_objects_v2(Bucket="logs", Prefix=prefix).get("Contents", ())]
    return {key: gzip.decompress(client.get_object(Bucket="logs", Key=key)["Body"].read()) for key in keys}


@pytest.mark.engine
def test_lines_are_gathered_into_objects_by_date_and_hour(bucket, monkeypatch):
    url, client = bucket
    monkeypatch.setattr(sinks, "OBJECT_BYTES", 100)
    to = sink("s3://logs/predictions/fraud", s3_endpoint_url=url)
    written = [to.write("", b"%02d" % number + b"." * 40) for number in range(5)] + [to.close()]
    assert sum(written) == 5
    found = objects(client, "predictions/fraud/")
    assert [len(body.splitlines()) for body in found.values()] == [3, 2]
    assert all("/date=" in key and "/hour=" in key and key.endswith(".jsonl.gz") for key in found)


@pytest.mark.engine
def test_what_s3_refuses_is_kept_and_tried_again_up_to_a_bound(bucket, monkeypatch):
    url, client = bucket
    to = S3Sink("not-there-yet", "p", url)
    to.write("", b"first")
    with pytest.raises(SinkError) as refused:
        to.flush()
    assert refused.value.rows == 0, "nothing is lost yet"
    client.create_bucket(Bucket="not-there-yet")
    assert to.flush() == 1
    monkeypatch.setattr(sinks, "WAITING_BYTES", 10)
    gone = S3Sink("never-there", "p", url)
    gone.write("", b"12345")
    with pytest.raises(SinkError) as lost:
        gone.write("", b"1234567")
    assert lost.value.rows == 2


def test_lines_are_messages_keyed_by_request():
    # librdkafka's own broker: its protocol on a port, without a log on disk.
    admin = AdminClient({"test.mock.num.brokers": 1})
    broker = next(iter(admin.list_topics(timeout=10).brokers.values()))
    servers = f"{broker.host}:{broker.port}"
    Producer({"bootstrap.servers": servers}).list_topics("predictions", timeout=10)
    to = log(sink(f"kafka://{servers}/predictions", kafka={"client.id": "slipway"}), told := Told())
    see(to, "a", "b")
    to.close(30)
    assert told.counts == {"written": 4}
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "g", "auto.offset.reset": "earliest"})
    consumer.subscribe(["predictions"])
    found = []
    deadline = time.monotonic() + 30
    while len(found) < 4 and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            found.append((message.key().decode(), json.loads(message.value())["row"]))
    consumer.close()
    assert sorted(found) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


def test_messages_that_no_broker_takes_are_told_as_failed(monkeypatch):
    monkeypatch.setattr(sinks, "DELIVERY_SECONDS", 0.2)
    told = Told()
    to = log(KafkaSink({"bootstrap.servers": "127.0.0.1:9", "log_level": "0"}, "t"), told)
    see(to, "a")
    to.close(20)
    assert told.counts == {"failed": 2}


@pytest.mark.parametrize(
    "uri", ["predictions.jsonl", "file://host/p", "file:///", "s3:///prefix", "kafka://broker", "kafka://b/a/c", "ftp://a/b"]
)  # fmt: skip
def test_a_uri_that_means_nothing_is_refused(uri):
    with pytest.raises(ValueError, match=r"it is file:///path, s3://bucket/prefix or kafka://brokers/topic"):
        sink(uri)


def test_a_file_that_cannot_be_written_is_refused_at_the_start():
    with pytest.raises(ValueError, match="lines are appended there"):
        sink("file:///proc/p.jsonl")
