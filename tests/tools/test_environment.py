"""Which commands of `pulumi` get the policy pack."""

from __future__ import annotations

import pytest

from tools.environment import POLICY_PACK, judged


@pytest.mark.parametrize(
    "arguments",
    [
        ("up", "--yes"),
        ("--non-interactive", "preview"),
        ("-C", "elsewhere", "--stack", "prod", "update"),
        ("--color=never", "up", "stack"),
    ],
)
def test_previews_and_updates_are_judged_wherever_their_options_stand(arguments):
    assert judged(arguments) == [*arguments, *POLICY_PACK]


@pytest.mark.parametrize("arguments", [(), ("stack", "up"), ("--stack", "up", "destroy"), ("config", "set", "up", "1")])
def test_other_commands_get_nothing_that_they_do_not_take(arguments):
    assert judged(arguments) == list(arguments)
