"""The gate without an engine: which evidence of which release blocks, which is told, which is let through."""

from datetime import UTC, datetime, timedelta

import pytest

from infra.evidence.seal import public_key
from policies.rules import evidence
from policies.rules.models import REALTIME_MODEL, live, releases
from tests.infra.evaluated import DIGEST, KEY, STRANGER, document, reading

RULES = {rule.name: rule for rule in evidence.RULES}


def release(said=None, version="1", **facts):
    found = None if said is None else (said if isinstance(said, dict) else said.plain())
    return {
        "reference": f"models:/fraud/{version}", "uri": f"models:/fraud/{version}", "version": version,
        "pinned": True, "digest": DIGEST, "memoryBytes": 2**30, "evidence": found, **facts,
    }  # fmt: skip


def model(releases, traffic=None, **keys):
    gate = {
        "enforcement": "mandatory", "maxAgeDays": 30, "signers": [public_key(KEY)], "production": False,
        "minimum": {"rocAuc": 0.98}, "regressionMargin": {"rocAuc": 0.01},
    }  # fmt: skip
    return {
        "model": "fraud",
        "traffic": traffic or {"v1": 100},
        "shadow": keys.pop("shadow", None),
        "slo": {"p99Ms": 50.0},
        "releases": releases,
        "gate": gate | keys,
    }


def spoken(properties, level="mandatory", resource_type=REALTIME_MODEL):
    """What each rule says, by name."""
    found = {name: rule.violations(resource_type, properties, level) for name, rule in RULES.items()}
    return {name: lines for name, lines in found.items() if lines}


OLD = datetime.now(UTC) - timedelta(days=31)

BAD = {
    "evidence-missing": (release(), "it has no evidence"),
    "evidence-tampered": (release({"document": {}, "tampered": "the file has SHA-256 1, its seal 2"}), "SHA-256 1"),
    "evidence-forged": (release(reading(document(), STRANGER)), f"signed by {public_key(STRANGER)}"),
    "evidence-other-artifact": (release(reading(document(digest="sha256:" + "e" * 64))), "it would run"),
    "evidence-stale": (release(reading(document(at=OLD))), "31 days old, at most 30"),
    "evidence-checklist": (release(reading(document(latency={"p99Ms": 51.0}))), "latency: p50 3 ms, p99 51 ms"),
    "evidence-minimum": (release(reading(document(holdout={"rocAuc": 0.9}))), "rocAuc is 0.9, at least 0.98"),
}


def test_good_evidence_is_let_through():
    assert spoken(model({"v1": release(reading(document()))})) == {}
    assert spoken(model({"v1": release(reading(document()))}), "advisory") == {}


@pytest.mark.parametrize("rule", BAD)
def test_bad_evidence_blocks_under_its_own_rule_and_names_the_release_and_the_remedy(rule):
    bad, wrong = BAD[rule]
    [(name, [line])] = spoken(model({"v1": bad})).items()
    assert name == rule, "one cause, one rule"
    assert line.startswith("slipway:models.fraud.releases.v1: models:/fraud/1: ")
    assert wrong in line
    assert line.endswith(f" → {RULES[rule].remedy}")


@pytest.mark.parametrize("rule", BAD)
def test_the_same_rule_blocks_advises_or_is_silent_as_the_stack_says(rule):
    bad = {"v1": BAD[rule][0]}
    assert set(spoken(model(bad), "mandatory")) == {rule}
    assert spoken(model(bad), "advisory") == {}
    assert spoken(model(bad, enforcement="advisory"), "mandatory") == {}
    assert set(spoken(model(bad, enforcement="advisory"), "advisory")) == {rule}
    assert spoken(model(bad, enforcement="off"), "mandatory") == spoken(model(bad, enforcement="off"), "advisory") == {}


@pytest.mark.parametrize("rule", BAD)
def test_a_release_that_no_request_reaches_is_advised_and_the_shadow_is_judged(rule):
    both = {"v1": release(reading(document())), "v2": BAD[rule][0]}
    aside = model(both, {"v1": 100, "v2": 0}, regressionMargin={})
    assert spoken(aside) == {}
    assert set(spoken(aside, "advisory")) == {rule}
    assert set(spoken(model(both, {"v1": 100}, shadow="v2", regressionMargin={}))) == {rule}
    assert set(spoken(model(both, {"v1": 99, "v2": 1}, regressionMargin={}))) == {rule}


def test_without_signers_a_valid_signature_is_enough_and_an_invalid_one_is_not():
    strangers = reading(document(), STRANGER).plain()
    assert spoken(model({"v1": release(strangers)}, signers=[])) == {}
    assert set(spoken(model({"v1": release(strangers | {"signer": ""})}, signers=[]))) == {"evidence-forged"}


def test_evidence_of_tomorrow_or_of_no_time_is_stale():
    tomorrow = document(at=datetime.now(UTC) + timedelta(days=1))
    for said in (tomorrow, document() | {"evaluatedAt": "soon"}, document() | {"evaluatedAt": "2026-01-01T00:00:00"}):
        assert set(spoken(model({"v1": release(reading(said))}))) == {"evidence-stale"}


def test_a_bound_of_the_stack_counts_and_not_the_one_that_the_file_was_evaluated_with():
    said = document(memory={"peakBytes": 600 * 2**20})
    assert spoken(model({"v1": release(reading(said))})) == {}
    assert set(spoken(model({"v1": release(reading(said), memoryBytes=512 * 2**20)}))) == {"evidence-checklist"}


WORSE = release(reading(document(holdout={"rocAuc": 0.981})), version="2")
GOOD = release(reading(document(holdout={"rocAuc": 0.995})), version="1")


@pytest.mark.parametrize(
    ("traffic", "blocked"),
    [
        ({"v1": 90, "v2": 10}, True),
        ({"v1": 50, "v2": 50}, True),
        ({"v1": 10, "v2": 90}, True),
        ({"v1": 0, "v2": 100}, True),
        ({"v1": 100, "v2": 0}, False),
    ],
)
def test_a_candidate_worse_than_the_live_release_gets_no_traffic_however_the_weights_are_set(traffic, blocked):
    found = spoken(model({"v1": GOOD, "v2": WORSE}, traffic))
    assert (set(found) == {"evidence-regression"}) is blocked, found
    if blocked:
        assert "slipway:models.fraud.releases.v2: " in found["evidence-regression"][0]
        assert "0.981, 0.995 in the live release" in found["evidence-regression"][0]


@pytest.mark.parametrize("traffic", [{"v1": 100, "v2": 0}, {"v1": 50, "v2": 50}, {"v1": 10, "v2": 90}])
def test_an_older_version_is_no_regression_neither_in_a_rollback_nor_while_a_better_one_takes_over(traffic):
    better = {"v1": release(WORSE["evidence"], version="1"), "v2": release(GOOD["evidence"], version="2")}
    assert spoken(model(better, traffic)) == {}


def test_what_is_live_is_of_what_came_before_the_release_with_the_most_traffic():
    three = {f"v{number}": release(version=str(number)) for number in (1, 2, 3)}
    other = {"v1": release(), "x": release(version="5", uri="models:/other/5")}

    def compared(traffic, name, releases_=three):
        [judged] = [each for each in releases(REALTIME_MODEL, model(releases_, traffic)) if each.name == name]
        found = live(judged)
        return found and found.name

    assert compared({"v1": 80, "v2": 20}, "v2") == "v1"
    assert compared({"v1": 80, "v2": 20}, "v3") == "v1"
    assert compared({"v1": 20, "v2": 80}, "v3") == "v2"
    assert compared({"v1": 80, "v2": 20}, "v1") is None
    assert compared({"v3": 100}, "v3") == "v2"
    assert compared({"v1": 90, "x": 10}, "x", other) == "v1"
    assert compared({"v1": 90, "x": 10}, "v1", other) is None


def test_evidence_that_is_not_believed_is_compared_with_nothing():
    forged = release(reading(document(holdout={"rocAuc": 1.0}), STRANGER))
    assert set(spoken(model({"v1": forged, "v2": WORSE}, {"v1": 90, "v2": 10}))) == {"evidence-forged"}


def test_other_resources_are_none_of_its_business():
    properties = model({"v1": release()})
    assert spoken(properties, resource_type="slipway:platforms:LocalPlatform") == {}


def test_every_rule_of_evidence_has_a_violating_case_here():
    assert BAD.keys() | {"evidence-regression"} == RULES.keys()
