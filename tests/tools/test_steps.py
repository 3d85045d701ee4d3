from __future__ import annotations

import json
import sys

import pytest

from tools.steps import StepError, Steps, duration


def test_a_failed_command_names_the_step_the_log_its_end_and_the_remedy(tmp_path):
    log = tmp_path / "build.log"
    with pytest.raises(StepError) as raised, Steps().step("build it") as step:
        step.run([sys.executable, "-c", "print('the cause'); raise SystemExit(3)"], log=log, remedy="mend it")
    for part in ("build it", "exited with 3", "the cause", str(log), "mend it"):
        assert part in str(raised.value), f"{part!r} is missing in: {raised.value}"


def test_a_program_that_is_not_there_is_an_error_with_the_remedy(tmp_path):
    with pytest.raises(StepError, match=r"no-such-program: not found .* → install it"), Steps().step("x") as step:
        step.run(["no-such-program"], log=tmp_path / "log", remedy="install it")


def test_finished_steps_are_recorded_and_failed_ones_are_not(tmp_path):
    steps = Steps(record=tmp_path / "build" / "steps.json")
    with steps.step("good"):
        pass
    with pytest.raises(ValueError, match="bad"), steps.step("bad"):
        raise ValueError("bad")
    assert list(json.loads((tmp_path / "build" / "steps.json").read_text())) == ["good"]


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0s"), (59.9, "59.9s"), (60, "1m00s"), (3599.6, "60m00s")])
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text
