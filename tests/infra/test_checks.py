"""The post-deployment checklist: verdicts on what was seen, and looking at servers that answer well or badly."""

import http.server
import json
import threading

import pytest

from infra.checks import lines
from infra.checks.hook import failure
from infra.checks.lines import Answered, Golden, Monitored, Pods
from infra.checks.live import ask, monitored, until_passed
from infra.evidence.checklist import Verdict

WANTED = Golden(rows=[{"a": 1.0}, {"a": 2.0}], expected=[0.25, 0.75], tolerance=1e-6)


@pytest.mark.parametrize(
    ("answered", "passed", "shown"),
    [
        (Answered(values=[0.25, 0.75], version="7"), True, "2 rows differ by 0 from training"),
        (Answered(values=[0.25, 0.7500001], version="7"), True, "differ by 1e-07"),
        (Answered(values=[0.25, 0.76], version="7"), False, "differ by 0.01"),
        (Answered(values=[0.25, float("nan")], version="7"), False, "nan"),
        (Answered(values=[0.25], version="7"), False, "1 answers to 2 rows"),
        (Answered(values=[0.25, 0.75], version="6"), False, "version 6 answers, not 7"),
        (Answered(error="it answered 503"), False, "it answered 503"),
    ],
)
def test_a_release_answers_as_in_training_or_does_not_pass(answered, passed, shown):
    verdict = lines.golden("v1", "7", WANTED, answered)
    assert verdict.passed is passed
    assert shown in verdict.shown
    assert verdict.passed or verdict.remedy


def test_a_model_without_golden_rows_has_to_answer_its_example_and_one_without_either_does_not_pass():
    example = Golden(rows=[{"a": 1.0}], expected=None)
    assert lines.golden("v1", "7", example, Answered(values=[3.0], version="7")).passed
    assert not lines.golden("v1", "7", example, Answered(version="7")).passed
    assert not lines.golden("v1", "7", None, Answered()).passed


@pytest.mark.parametrize(
    ("seen", "passed"),
    [
        (Pods(ready=2, wanted=2), True),
        (Pods(ready=1, wanted=2), False),
        (Pods(ready=0, wanted=0), False),
        (Pods(ready=0, wanted=0, error="refused"), False),
    ],
)
def test_every_pod_is_ready(seen, passed):
    assert lines.pods("v1", seen).passed is passed


SEEN = Monitored(series={"v1": 2.0, "v2": 1.0}, alerts=6, compared=40.0)


def failing(seen, shadow="v2"):
    found = lines.monitoring(["v1", "v2"], shadow, seen)
    assert [verdict.item for verdict in found] == [
        "metrics v1",
        "metrics v2",
        "alerts",
        *([f"shadow {shadow}"] if shadow else []),
    ]
    return [verdict.item for verdict in found if not verdict.passed]


@pytest.mark.parametrize(
    ("seen", "wrong"),
    [
        (SEEN, []),
        (Monitored(series={"v1": 2.0}, alerts=6, compared=40.0), ["metrics v2"]),
        (Monitored(series=SEEN.series, alerts=0, compared=40.0), ["alerts"]),
        (Monitored(series=SEEN.series, alerts=6, unhealthy=["Slow"], compared=40.0), ["alerts"]),
        (Monitored(series=SEEN.series, alerts=6, compared=0.0), ["shadow v2"]),
        (Monitored(series=SEEN.series, alerts=6), ["shadow v2"]),
        (Monitored(error="refused"), ["metrics v1", "metrics v2", "alerts", "shadow v2"]),
        (None, ["metrics v1", "metrics v2", "alerts", "shadow v2"]),
    ],
)
def test_what_prometheus_does_not_have_does_not_pass(seen, wrong):
    assert failing(seen) == wrong
    assert "shadow v2" not in failing(seen, shadow=None)


def test_where_there_is_no_prometheus_the_remedy_says_so():
    assert all("output `prometheus`" in verdict.remedy for verdict in lines.monitoring(["v1"], None, None))


def test_it_looks_until_everything_holds_and_no_longer_than_it_may():
    looks = iter([[Verdict(item="a", passed=False, shown="")], [Verdict(item="a", passed=True, shown="")]])
    assert until_passed(lambda: next(looks), 60)[0].passed, "a second look found it"
    never = [Verdict(item="a", passed=False, shown="")]
    assert until_passed(lambda: never, 0) == never


def test_a_failed_update_names_each_line_with_what_to_do():
    said = failure("fraud", [lines.golden("v2", "7", WANTED, Answered(values=[0.25, 0.9], version="7"))], 5)
    assert said.startswith(
        "fraud: 1 of 5 lines of the post-deployment checklist do not hold (`slipway checklist fraud`"
    )
    assert "golden v2: 2 rows differ by 0.15 from training → ≤ 1e-06 → go back" in said


@pytest.fixture
def server():
    """A server that answers each path as the test says: (status, body)."""
    answers = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path, _, query = self.path.partition("?")
            code, body = next(
                (found for (known, part), found in answers.items() if known == path and part in query), (404, "")
            )
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body.encode())

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.do_GET()

        def log_message(self, *_):
            """Not into the tests' output."""

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}", answers
    serving.shutdown()
    thread.join()
    serving.server_close()


def test_answers_are_read_and_what_is_no_answer_is_told(server):
    url, answers = server
    told = {"prediction": [0, 1], "probability": [0.25, 0.75], "model_version": "7"}
    answers["/predict", ""] = (200, json.dumps(told))
    assert ask(url, "v1", WANTED) == Answered(values=[0.25, 0.75], version="7")
    answers["/predict", ""] = (200, json.dumps(told | {"probability": None}))
    assert ask(url, "v1", WANTED).values == [0.0, 1.0], "a regression has predictions alone"
    for wrong in ((503, "no healthy upstream"), (200, "<html>"), (200, "[]"), (200, '{"prediction": 1}')):
        answers["/predict", ""] = wrong
        assert ask(url, "v1", WANTED).error
    assert "does not answer" in ask("http://127.0.0.1:1", "v1", WANTED).error


def test_prometheus_is_read_and_one_that_answers_nonsense_is_told(server):
    url, answers = server

    def result(*found):
        data = {"result": [{"metric": metric, "value": [0, value]} for metric, value in found]}
        return 200, json.dumps({"status": "success", "data": data})

    answers["/api/v1/query", "slipway_requests_total"] = result(({"release": "v1"}, "3"))
    answers["/api/v1/query", "slipway_shadow_rows_total"] = result(({}, "40"))
    groups = [{"rules": [{"name": "Slow", "health": "err"}, {"name": "Errors", "health": "ok"}]}]
    answers["/api/v1/rules", ""] = (200, json.dumps({"data": {"groups": groups}}))
    expected = Monitored(series={"v1": 3.0}, alerts=2, unhealthy=["Slow"], compared=40.0)
    assert monitored(url, "fraud") == expected
    answers["/api/v1/query", "slipway_shadow_rows_total"] = result()
    assert monitored(url, "fraud").compared is None
    for wrong in ((500, ""), (200, "<html>"), (200, "{}")):
        answers["/api/v1/rules", ""] = wrong
        assert monitored(url, "fraud").error
    assert monitored("http://127.0.0.1:1", "fraud").error
