"""The short form of `make chaos`: the same blows, fewer of them."""

import pytest

from tools.chaos.page import page
from tools.chaos.run import Plan, run

pytestmark = pytest.mark.slow


@pytest.mark.timeout(240)
def test_whatever_is_killed_each_message_is_answered_once_and_in_order():
    report = run(Plan(messages=6000, kills=6, seconds=12, seed=3), lambda _: None)
    assert report.exact, report
    assert report.dead_letters == 7, "every 997th of the messages, from the first on"
    assert all(report.kills.values()), "workers were killed, and the broker"
    assert report.zombies, "and some were stopped for longer than their session"
    assert "| **lost** | 0 |" in page({**report.plain(), "machine": "here"})
