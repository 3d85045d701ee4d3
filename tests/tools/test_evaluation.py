"""The parts of an evaluation by themselves: data, metrics, load. The whole is in tests/services/registry."""

import http.server
import threading
import time

import pandas as pd
import pytest

from services.inference.core.schema import Task
from tools.evaluation import holdout, load, metrics
from tools.evaluation.questions import body_of
from tools.steps import StepError


def test_labels_and_features_are_read_from_csv_and_parquet_alike(tmp_path):
    frame = pd.DataFrame({"a": [0.1, None, 3.0], "n": [1, 2, 3], "y": [0, 1, 0]})
    frame.to_csv(tmp_path / "d.csv", index=False)
    frame.to_parquet(tmp_path / "d.parquet")
    one, other = (holdout.given(tmp_path / name, "y") for name in ("d.csv", "d.parquet"))
    assert one.columns == other.columns == {"a": [0.1, None, 3.0], "n": [1, 2, 3]}
    assert one.labels == other.labels == [0, 1, 0]
    assert one.sha256 != other.sha256, "it is the file's"


def test_a_file_without_rows_or_that_is_no_table_is_refused(tmp_path):
    for name, content in (("empty.csv", "a,y\n"), ("none.csv", ""), ("broken.parquet", "?")):
        (tmp_path / name).write_text(content)
        with pytest.raises(StepError, match=name):
            holdout.given(tmp_path / name, "y")


def test_binary_metrics_are_of_probability_and_prediction():
    answers = {"probability": [0.9, 0.8, 0.4, 0.1], "prediction": [1, 1, 0, 0]}
    found = metrics.measure(Task.BINARY, [1, 0, 1, 0], answers)
    assert (found["rocAuc"], found["accuracy"], found["f1"]) == (0.75, 0.5, 0.5)
    assert metrics.measure(Task.BINARY, ["bad", "good", "bad", "good"], answers, ("good", "bad")) == found
    assert "rocAuc" not in metrics.measure(Task.BINARY, [1, 1, 1, 1], answers), "it is not defined for one class"


def test_multiclass_metrics_are_of_all_probabilities():
    answers = {
        "probability": [0.7, 0.6, 0.5],
        "prediction": [0, 1, 2],
        "probabilities": [[0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.3, 0.2, 0.5]],
    }
    found = metrics.measure(Task.MULTICLASS, [0, 1, 2], answers)
    assert (found["accuracy"], found["f1Macro"], found["rocAuc"]) == (1.0, 1.0, 1.0)
    assert 0 < found["logLoss"] < 1


def test_regression_metrics_are_of_the_prediction_whatever_its_output_is_called():
    found = metrics.measure(Task.REGRESSION, [1.0, 2.0, 3.0], {"predict": [1.5, 2.0, 2.5]})
    assert found["mae"] == pytest.approx(1 / 3)
    assert found["r2"] == pytest.approx(0.75)


def test_a_model_that_does_not_answer_what_its_task_needs_is_told():
    with pytest.raises(StepError, match="--task"):
        metrics.measure(Task.MULTICLASS, [0], {"prediction": [0]})


def test_a_request_has_a_tensor_for_each_input_and_names_what_the_data_lack():
    inputs = [{"name": "n", "datatype": "INT64"}, {"name": "b", "datatype": "BOOL"}]
    body = body_of(inputs, {"n": [1.0, 2.0], "b": [1, 0]}, [1])
    assert body == (
        b'{"inputs": [{"name": "n", "datatype": "INT64", "shape": [1], "data": [2]}, '
        b'{"name": "b", "datatype": "BOOL", "shape": [1], "data": [false]}]}'
    )
    with pytest.raises(StepError, match="the data lack b"):
        body_of(inputs, {"n": [1]}, [0])


@pytest.fixture
def target():
    """A server that answers after 20 ms, every tenth request with 503."""
    count = iter(range(1_000_000))

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            time.sleep(0.02)
            self.send_response(503 if next(count) % 10 == 9 else 200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            """Not into the tests' output."""

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128  # every sender connects at once

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield load.Target(port=server.server_port, path="/", body=b"{}")
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_open_loop_sends_what_it_should_and_counts_what_fails(target):
    found = load.open_loop(target, rate=100, seconds=1)
    assert found.requests == pytest.approx(100, abs=30), "Poisson, with one seed"
    assert found.errors == found.requests // 10
    assert 20 <= found.percentile(50) <= found.percentile(99)


def test_a_closed_loop_waits_for_each_answer(target):
    found = load.closed_loop(target, connections=2, seconds=0.5)
    assert 2 <= found.requests <= 2 * 0.5 / 0.02 + 2, "no connection has two under way"


def test_a_server_that_does_not_answer_is_errors_and_no_latency():
    found = load.closed_loop(load.Target(port=1, path="/", body=b""), connections=1, seconds=0.05)
    assert found.errors > 0
    assert found.latencies == []
    assert found.percentile(99) is None


@pytest.mark.parametrize(("percent", "expected"), [(50, 50_000.0), (99, 99_000.0), (100, 100_000.0)])
def test_a_percentile_is_a_value_that_was_seen(percent, expected):
    assert load.Outcome(latencies=[float(value) for value in range(1, 101)]).percentile(percent) == expected
