"""The rollout's state machine on a stage of the test's own: every ending, every kill."""

from __future__ import annotations

import json

import pytest

from tools.rollout import journal as journals
from tools.rollout.journal import Journal, shifted
from tools.rollout.run import Pace, report, run
from tools.rollout.verdict import Check, Outcome, Verdict
from tools.steps import StepError

PACE = Pace(look_seconds=5, patience_seconds=20)


class Killed(BaseException):
    """As SIGKILL: nothing is caught, nothing cleaned up."""


class Stage:
    def __init__(self, say=lambda percent, seconds: Outcome.PASS, die_at=None):
        self.applied, self.hurried = [], []
        self.now = 0.0
        self._say, self._die_at, self._did = say, die_at, 0

    def _step(self):
        self._did += 1
        if self._did == self._die_at:
            raise Killed

    def apply(self, traffic, *, at_once=False):
        self._step()
        self.applied.append(traffic)
        self.hurried.append(at_once)

    def look(self, candidate, seconds):
        self._step()
        percent = self.applied[-1].get(candidate, 0)
        outcome = self._say(percent, seconds)
        return Verdict(checks=(Check(name="error rate", outcome=outcome, value=0.5, bound=0.1, note="so it is"),))

    def seconds(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds


def journal(**keys):
    fields = {
        "before": {"v1": 100},
        "steps": (5, 50, 100),
        "bake_seconds": 10.0,
        "started": "2026-01-01T00:00:00+00:00",
    }
    return Journal(model="fraud", stack="local", candidate="v2", **{**fields, **keys})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "local.fraud.json"


def test_a_good_candidate_gets_all_the_traffic_step_by_step(path):
    stage = Stage()
    result = run(journal(), path, stage, PACE, lambda _: None)
    assert result.completed
    assert stage.applied == [{"v1": 95, "v2": 5}, {"v1": 50, "v2": 50}, {"v2": 100}]
    assert stage.now == 30, "ten seconds each"
    assert not path.exists()
    assert "completed" in report(result)


def test_a_bad_candidate_is_taken_back_at_the_first_look_that_says_so(path):
    stage = Stage(lambda percent, seconds: Outcome.FAIL if percent == 50 else Outcome.PASS)
    result = run(journal(), path, stage, PACE, lambda _: None)
    assert not result.completed
    assert stage.applied == [{"v1": 95, "v2": 5}, {"v1": 50, "v2": 50}, {"v1": 100}]
    assert stage.hurried == [False, False, True], "back before the update, forward with it"
    assert stage.now == 15, "not when the step has baked"
    assert not path.exists()
    assert "given up at 50%: error rate: so it is" in report(result)


def test_what_nobody_can_say_holds_until_patience_ends_and_is_never_passed(path):
    stage = Stage(lambda percent, seconds: Outcome.HOLD)
    result = run(journal(), path, stage, PACE, lambda _: None)
    assert not result.completed
    assert stage.applied == [{"v1": 95, "v2": 5}, {"v1": 100}]
    assert stage.now == 30
    assert "no verdict in 30 s" in result.journal.reverting


def test_a_verdict_that_comes_late_is_a_verdict(path):
    stage = Stage(lambda percent, seconds: Outcome.PASS if seconds > 20 else Outcome.HOLD)
    assert run(journal(steps=(5,)), path, stage, PACE, lambda _: None).completed
    assert stage.now == 25


@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize("die_at", range(1, 12))
def test_a_run_that_is_killed_anywhere_ends_as_one_that_was_not(path, die_at, bad):
    def say(percent, _):
        return Outcome.FAIL if bad and percent == 100 else Outcome.PASS

    stage = Stage(say, die_at)
    try:
        run(journal(), path, stage, PACE, lambda _: None)
    except Killed:
        again = journals.read(path)
        assert again is not None, "whoever comes next must know of it"
        run(again, path, stage, PACE, lambda _: None)
    assert stage.applied[-1] == ({"v1": 100} if bad else {"v2": 100})
    assert not path.exists()


def test_the_journal_is_what_was_written(path):
    one = journal(at=1, reverting="it burns", looks=[{"percent": 5}])
    journals.write(path, one)
    assert journals.read(path) == one
    assert journals.read(path.with_name("none")) is None
    assert json.loads(path.read_text())["candidate"] == "v2"


@pytest.mark.parametrize(
    ("before", "percent", "after"),
    [
        ({"v1": 100}, 5, {"v1": 95, "v2": 5}),
        ({"v1": 90, "v2": 10}, 25, {"v1": 75, "v2": 25}),
        ({"a": 33, "b": 33, "c": 34}, 50, {"a": 17, "b": 16, "c": 17, "v2": 50}),
        ({"v1": 100, "v3": 0}, 100, {"v2": 100}),
    ],
)
def test_the_others_share_the_rest_as_they_did_before(before, percent, after):
    found = shifted(before, "v2", percent)
    assert found == after
    assert sum(found.values()) == 100


def test_a_candidate_that_has_it_all_has_no_way_to_go():
    with pytest.raises(StepError, match="nothing is left to do"):
        shifted({"v2": 100}, "v2", 50)


def test_two_commands_at_once_are_refused(tmp_path):
    with journals.alone(tmp_path, "local"):
        with pytest.raises(StepError, match="another rollout command"), journals.alone(tmp_path, "local"):
            pass
        with journals.alone(tmp_path, "prod"):
            pass
    with journals.alone(tmp_path, "local"):
        pass
