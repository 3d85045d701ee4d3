"""Evidence without a registry: what figures pass, what a seal shows."""

import dataclasses

import pytest

from infra.evidence.checklist import ITEMS, Bounds, below_minimum, judge, regressions
from infra.evidence.seal import public_key, read_seal, seal, unseal
from tests.infra.evaluated import KEY, STRANGER, content_of, document

BOUNDS = Bounds(p99_ms=50, error_rate=0.01, memory_bytes=2**30, minimum={"rocAuc": 0.98})


def failing(said, bounds=BOUNDS):
    return [verdict.item for verdict in judge(said, bounds) if not verdict.passed]


def test_good_figures_pass_every_item_and_show_what_they_were_held_against():
    verdicts = {verdict.item: verdict for verdict in judge(document(), BOUNDS)}
    assert list(verdicts) == list(ITEMS)
    assert all(verdict.passed for verdict in verdicts.values())
    assert "p99 9 ms at 50/s" in verdicts["latency"].shown
    assert verdicts["latency"].bound == "p99 ≤ 50 ms, errors ≤ 1.00%"
    assert verdicts["memory"].bound == "≤ 1024 MiB"
    assert verdicts["holdout"].bound == "rocAuc ≥ 0.98"


@pytest.mark.parametrize(
    ("item", "figures"),
    [
        ("holdout", {"rocAuc": 0.97}),
        ("holdout", {"rocAuc": None}),
        ("holdout", {"rows": 0}),
        ("holdout", {"rocAuc": float("nan")}),
        ("holdout", {"rocAuc": True}),
        ("latency", {"p99Ms": 51}),
        ("latency", {"errors": 6}),
        ("latency", {"requests": 0}),
        ("latency", {"p99Ms": "fast"}),
        ("memory", {"peakBytes": 2**30 + 1}),
        ("memory", {"peakBytes": 0}),
        ("load", {"errors": 46}),
        ("load", {"requestsPerSecond": 0}),
        ("transformer", {"digest": ""}),
        ("transformer", {"goldenDifference": 1e-5}),
        ("transformer", {"goldenDifference": None}),
        ("rollback", {"settled": False}),
        ("rollback", {"answers": ""}),
        ("monitoring", {"missing": ["slipway_score"]}),
        ("monitoring", {"series": []}),
    ],
)
def test_a_figure_that_does_not_hold_fails_its_item_whatever_the_file_says_of_it(item, figures):
    said = document(**{item: figures})
    assert said["items"][item]["passed"] is True, "the file lies"
    assert failing(said) == [item]
    [verdict] = [verdict for verdict in judge(said, BOUNDS) if not verdict.passed]
    assert verdict.remedy, "a failure says what to do"


@pytest.mark.parametrize("item", ITEMS)
def test_what_was_not_measured_does_not_pass(item):
    assert failing(document(**{item: None})) == [item]


@pytest.mark.parametrize("garbled", [{}, {"items": []}, {"items": {"holdout": 1}}, {"items": {"load": {"figures": 3}}}])
def test_a_garbled_document_passes_nothing_and_breaks_nothing(garbled):
    assert failing(garbled) == list(ITEMS)


def test_the_first_version_has_nothing_to_go_back_to_and_a_model_may_need_no_transformer():
    first = {"first": True, "answers": "", "settled": False}
    assert failing(document(rollback=first, transformer={"kind": "none", "digest": ""})) == []


def test_minimums_name_what_is_too_low_and_what_was_not_measured():
    assert below_minimum(document(), {"rocAuc": 0.995, "r2": 0.5, "f1": 0.9}) == [
        "r2 was not measured, at least 0.5 is demanded",
        "rocAuc is 0.99, at least 0.995 is demanded",
    ]


@pytest.mark.parametrize(
    ("figures", "worse"),
    [
        ({}, False),
        ({"rocAuc": 0.981}, False),
        ({"rocAuc": 0.979}, True),
        ({"rocAuc": 1.0}, False),
        ({"logLoss": 0.12}, False),
        ({"logLoss": 0.14}, True),
        ({"logLoss": 0.01}, False),
        ({"rocAuc": None}, True),
    ],
)
def test_a_candidate_may_be_worse_by_the_margin_and_no_more_in_either_direction(figures, worse):
    found = regressions(document(holdout=figures), document(), {"rocAuc": 0.01, "logLoss": 0.05})
    assert bool(found) is worse, found


def test_a_slower_candidate_is_found_by_the_ratio():
    slow = document(latency={"p99Ms": 14.0})
    assert regressions(slow, document(), {"p99Ratio": 1.6}) == []
    [wrong] = regressions(slow, document(), {"p99Ratio": 1.5})
    assert wrong == "p99 is 14 ms, 9 ms in the live release, more than 1.5 times as slow"
    assert regressions(document(latency={"p99Ms": None}), document(), {"p99Ratio": 2}) != []


def test_metrics_of_other_data_are_no_comparison():
    [wrong] = regressions(document(data="6" * 64), document(), {"rocAuc": 0.01, "accuracy": 0.01})
    assert "other data" in wrong
    assert regressions(document(data="6" * 64), document(), {"r2": 0.01}) == [], "nothing was to be compared"


def test_a_seal_shows_that_the_file_is_what_was_signed_and_by_whom():
    content = content_of(document())
    sealed = seal(content, "mlflow-artifacts:/1/evidence.json", KEY)
    assert read_seal(sealed.dump()) == sealed
    read = unseal(content, sealed)
    assert (read.tampered, read.signer) == ("", public_key(KEY))
    assert read.document == document(at=None) | {"evaluatedAt": read.document["evaluatedAt"]}


def test_a_file_that_was_changed_is_told_and_its_content_is_not_read():
    content = content_of(document())
    sealed = seal(content, "mlflow-artifacts:/1/evidence.json", KEY)
    read = unseal(content.replace(b"0.96", b"0.99"), sealed)
    assert "SHA-256" in read.tampered
    assert read.document == {}


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"schema": "other/1"}'])
def test_a_sealed_file_that_is_no_evidence_is_told(content):
    assert unseal(content, seal(content, "", KEY)).tampered


def test_a_signature_by_another_key_than_the_one_it_names_counts_as_none():
    content = content_of(document())
    strangers = seal(content, "", STRANGER)
    for wrong in (
        dataclasses.replace(strangers, signer=public_key(KEY)),
        dataclasses.replace(strangers, signature="AAAA"),
        dataclasses.replace(strangers, signature="?"),
        dataclasses.replace(strangers, signer="ed25519:AAAA"),
        dataclasses.replace(strangers, signer=strangers.signer.removeprefix("ed25519:")),
    ):
        assert unseal(content, wrong).signer == ""
    assert unseal(content, strangers).signer == public_key(STRANGER)


@pytest.mark.parametrize("tag", ["", "{", "[]", "{}", '{"sha256": 1, "location": "", "signer": "", "signature": ""}'])
def test_a_tag_that_is_no_seal_is_none(tag):
    assert read_seal(tag) is None
