"""The post-deployment checklist as a hook of the real engine: what it sees decides how the update ends."""

from __future__ import annotations

import http.server
import json
import random
import threading

import pytest

from tests.infra.recording import realtime

pytestmark = pytest.mark.engine

ONE = realtime(releases={"v1": {"model": "models:/fraud/1"}})
TWO = realtime(
    releases={"v1": {"model": "models:/fraud/1"}, "v2": {"model": "models:/fraud/2"}}, traffic={"v1": 90, "v2": 10}
)


class Gateway:
    """Answers as the gateway would; the test says what each release answers."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        gateway = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                release = self.headers["x-model-version"]
                body = self.rfile.read(int(self.headers["content-length"]))
                gateway.asked.append((self.path, release, json.loads(body)))
                version, probability = gateway.answers[release]
                answer = {"prediction": [0], "probability": [probability], "model_version": version}
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_):
                """Not into the tests' output."""

        self._server = served(Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def served(handler):
    """At a port that a NodePort may have: those that the system chooses are above."""
    for _ in range(100):
        try:
            return http.server.ThreadingHTTPServer(("127.0.0.1", random.randint(20_000, 32_000)), handler)  # noqa: S311
        except OSError:
            continue
    pytest.fail("no free port")


@pytest.fixture
def gateway():
    found = Gateway()
    yield found
    found.close()


@pytest.fixture
def checked(project, gateway):
    """The project, with its checklist on and the gateway above."""
    project.configure(
        platform={"kind": "local", "gatewayPort": gateway.port},
        addons={"monitoring": {"enabled": False}},  # the gateway above leads to no Prometheus
        checklist={"enabled": True, "timeoutSeconds": 1},
    )
    return project


def test_the_update_asks_every_release_its_golden_rows_through_the_gateway_and_ends_well(checked, gateway):
    gateway.answers = {"v1": ("1", 0.25), "v2": ("2", 0.25)}
    checked.configure(models={"fraud": TWO})
    previewed = checked.preview()
    assert previewed, previewed.output
    assert gateway.asked == [], "a preview looks at nothing"
    done = checked.up()
    assert done, done.output
    rows = {"features": [{"a": 1.0}]}
    assert gateway.asked == [("/models/fraud/predict", "v1", rows), ("/models/fraud/predict", "v2", rows)]
    again = checked.up()
    assert again, again.output
    assert len(gateway.asked) == 2, "what did not change is not looked at"


def test_an_update_whose_release_answers_otherwise_than_in_training_fails_and_says_what_to_do(
    checked, gateway, provider
):
    gateway.answers = {"v1": ("1", 0.25), "v2": ("2", 0.31)}
    checked.configure(models={"fraud": ONE})
    assert checked.up()
    checked.configure(models={"fraud": TWO})
    done = checked.up()
    assert not done
    assert "1 of 2 lines of the post-deployment checklist do not hold" in done.output
    assert "golden v2: 1 rows differ by 0.06 from training → ≤ 1e-06 → go back to the release before" in done.output
    assert "slipway checklist fraud" in done.output
    assert "Deployment fraud-v2" in provider.objects, "it was deployed, and is there to be looked at"

    again = checked.up()
    assert not again, "what did not pass is looked at again, though nothing else is left to do"
    assert "1 of 2 lines" in again.output
    gateway.answers["v2"] = ("2", 0.25)
    mended = checked.up()
    assert mended, mended.output

    checked.configure(models={"fraud": ONE})
    back = checked.up()
    assert back, back.output
    assert "Deployment fraud-v2" not in provider.objects


def test_a_release_that_serves_another_version_is_looked_at_though_the_traffic_stays(checked, gateway):
    gateway.answers = {"v1": ("1", 0.25)}
    checked.configure(models={"fraud": ONE})
    assert checked.up()
    checked.configure(models={"fraud": realtime(releases={"v1": {"model": "models:/fraud/2"}})})
    done = checked.up()
    assert not done
    assert "golden v1: version 1 answers, not 2" in done.output
