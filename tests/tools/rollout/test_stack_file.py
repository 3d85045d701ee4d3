from __future__ import annotations

import pytest
import yaml

from tools.rollout.stack_file import with_traffic
from tools.steps import StepError

FILE = """\
# what people wrote stays
encryptionsalt: v1:abc
config:
  slipway:platform: { kind: local }   # one machine
  slipway:models:
    other: { kind: realtime, releases: { v1: { model: "models:/o/1" } }, traffic: { v1: 100 } }
    fraud:
      kind: realtime
      releases:
        v1: { model: "models:/fraud/1" }
        v2:  { model: 'models:/fraud/2' }
      traffic: { v1: 100 }  # percent
      shadow: v2
    block:
      releases: {a: {}, b: {}, c: {}}
      traffic:
        a: 90   # the old one
        b: 10
      slo: { p99Ms: 50 }
"""


def edited(model, traffic, text=FILE):
    return with_traffic(text, model, traffic, "Pulumi.local.yaml")


def changed(before, after):
    a, b = before.splitlines(), after.splitlines()
    return [line for line in b if line not in a], [line for line in a if line not in b]


def test_a_release_joins_a_map_in_one_line_and_nothing_else_changes():
    assert changed(FILE, edited("fraud", {"v1": 90, "v2": 10})) == (
        ["      traffic: { v1: 90, v2: 10 }  # percent"],
        ["      traffic: { v1: 100 }  # percent"],
    )


def test_a_release_joins_a_map_of_lines_behind_the_last_ones_comment():
    after = edited("block", {"a": 50, "b": 30, "c": 20})
    assert changed(FILE, after) == (["        a: 50   # the old one", "        b: 30", "        c: 20"],
                                    ["        a: 90   # the old one", "        b: 10"])  # fmt: skip
    assert yaml.safe_load(after)["config"]["slipway:models"]["block"]["traffic"] == {"a": 50, "b": 30, "c": 20}


def test_a_release_that_is_not_named_gets_nothing_and_stays_in_the_file():
    assert "        a: 0   # the old one\n        b: 100\n" in edited("block", {"b": 100})


def test_back_and_forth_gives_the_very_same_bytes():
    there = edited("block", {"a": 10, "b": 90})
    assert edited("block", {"a": 90, "b": 10}, there) == FILE
    assert edited("fraud", {"v1": 100}) == FILE


def test_a_map_at_the_end_of_a_file_without_a_last_newline():
    text = "config:\n  slipway:models:\n    m:\n      traffic:\n        a: 100"
    assert edited("m", {"a": 60, "b": 40}, text) == text.replace("100", "60") + "\n        b: 40"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("config: {}", "fraud: not in Pulumi.local.yaml → one of: none"),
        ("config: {slipway:models: {fraud: {releases: {}}}}", "has no traffic map"),
        ("config: [", "not YAML"),
        ("x", "no map at its top"),
        (
            "config:\n  slipway:models:\n    a: &t\n      traffic: { v1: 100 }\n    fraud: *t\n",
            "cannot be edited in place",
        ),
        (
            "config:\n  slipway:models:\n    a: &t\n      traffic: { v1: 100 }\n    fraud:\n      <<: *t\n",
            "is not written there",
        ),
    ],
)
def test_what_cannot_be_edited_is_said_and_left_alone(text, said):
    with pytest.raises(StepError) as raised:
        edited("fraud", {"v1": 60, "v2": 40}, text)
    assert said in str(raised.value)
