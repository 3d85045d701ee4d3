"""Dead letters that are sent back, against a real broker."""

import json

import pytest

from services.contract import DeadLetter, Env
from tools.cli.stream import lag
from tools.dead_letters import Replay, replay
from tools.steps import StepError

pytestmark = pytest.mark.slow


def quiet(_):
    """Say nothing."""


@pytest.fixture
def dead(stream):
    """A stream with six letters of two kinds and no worker; its input was lost meanwhile."""
    letters = [
        (b"k%d" % n, b'{"x": %d}' % n, [(DeadLetter.TOPIC.value, stream.input.encode()),
         (DeadLetter.ERROR.value, b"PredictionFailed" if n % 2 else b"InvalidValue"), ("x-request-id", b"r")])
        for n in range(6)
    ]  # fmt: skip
    stream.cluster.send(stream.dead, letters)
    return stream


def asked(stream, **keys):
    return Replay(topic=stream.dead, group=f"{stream.group}-replay", **keys)


def test_letters_go_back_once_however_often_they_are_sent(dead):
    first = replay(dead.cluster.client, asked(dead), quiet)
    assert first.sent == {dead.input: 6}
    assert replay(dead.cluster.client, asked(dead), quiet).sent == {}, "the second run finds nothing left"
    found = dead.cluster.read(dead.input)
    assert sorted(json.loads(each.value())["x"] for each in found) == list(range(6))
    assert all(each.headers() == [("x-request-id", b"r")] for each in found), "as they were before they died"
    assert all(each.key() == b"k%d" % json.loads(each.value())["x"] for each in found)


def test_only_letters_of_the_class_that_is_asked_for_go_back(dead):
    found = replay(dead.cluster.client, asked(dead, errors=frozenset({"PredictionFailed"})), quiet)
    assert found.sent == {dead.input: 3}
    assert found.left_out == {"InvalidValue": 3}


def test_a_limit_is_kept_and_the_next_run_goes_on_there(dead):
    assert replay(dead.cluster.client, asked(dead, limit=4), quiet).sent.total() == 4
    assert replay(dead.cluster.client, asked(dead), quiet).sent.total() == 2
    assert len(dead.cluster.read(dead.input)) == 6


def test_a_dry_run_sends_nothing(dead):
    assert replay(dead.cluster.client, asked(dead, dry_run=True), quiet).sent == {dead.input: 6}
    assert dead.cluster.read(dead.input) == []


def test_a_topic_that_is_not_there_is_named(cluster):
    with pytest.raises(StepError, match=r"nowhere: .*correct the name"):
        replay(cluster.client, Replay(topic="nowhere", group="g"), quiet)


def test_letters_of_a_topic_that_is_gone_and_headers_without_a_value_stay_and_stop_no_other(dead):
    gone = [(DeadLetter.TOPIC.value, b"gone"), (DeadLetter.ERROR.value, b"InvalidValue")]
    dead.cluster.send(dead.dead, [(b"k", b"v", gone), (b"k", b"v", [(DeadLetter.ERROR.value, None)])])
    found = replay(dead.cluster.client, asked(dead), quiet)
    assert found.sent == {dead.input: 6}
    assert found.left_out == {"topic gone is not there for this user": 1, "no dead letter": 1}


def test_the_lag_of_a_topic_that_is_not_there_is_not_nothing(cluster):
    with pytest.raises(StepError, match=r"nowhere: .*correct the name"):
        lag("g", "nowhere", cluster.bootstrap)


def test_what_a_mended_model_takes_is_answered_after_a_replay(dead):
    replay(dead.cluster.client, asked(dead), quiet)
    dead.worker({Env.STREAM_COMMIT_MS: 50})
    assert len(dead.answers(6)) == 6
