from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.rollout.verdict import (
    Bounds,
    Histogram,
    Outcome,
    Sample,
    chance,
    histogram,
    judge,
    stability_index,
)

FAIL = Outcome.FAIL
EDGES = (0.01, 0.05, 0.1, math.inf)
SCORES = (0.25, 0.5, 0.75, 1.0)


def times(*counts):
    return Histogram(bounds=EDGES, counts=counts)


def scores(*counts):
    return Histogram(bounds=SCORES, counts=counts)


GOOD = Sample(requests=1000, errors=2, latency=times(900, 95, 5, 0), scores=scores(250, 250, 250, 250),
              compared=500, differing=1)  # fmt: skip
BOUNDS = Bounds(p99_seconds=0.1)


def verdict(live=GOOD, bounds=BOUNDS, **changed):
    return judge(live, replace(GOOD, **changed), bounds, scored=True, compared=True)


def outcome_of(name, found):
    return next(check.outcome for check in found.checks if check.name == name)


def test_a_candidate_as_good_as_the_live_release_passes():
    found = verdict()
    assert found.outcome is Outcome.PASS
    assert [check.name for check in found.checks] == ["error rate", "p99 latency", "score drift", "shadow agreement"]


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("error rate", {"errors": 60}),
        ("p99 latency", {"latency": times(500, 300, 100, 100)}),
        ("score drift", {"scores": scores(10, 40, 150, 800)}),
        ("shadow agreement", {"differing": 100}),
    ],
)
def test_what_is_surely_worse_fails_and_only_there(name, changed):
    found = verdict(**changed)
    assert found.outcome is Outcome.FAIL
    assert [check.name for check in found.checks if check.outcome is Outcome.FAIL] == [name]
    assert name in found.reasons


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("error rate", "requests"), ("error rate", "errors"), ("p99 latency", "latency"),
        ("score drift", "scores"), ("shadow agreement", "compared"), ("shadow agreement", "differing"),
    ],
)  # fmt: skip
def test_what_was_not_measured_holds_and_never_passes(name, missing):
    found = verdict(**{missing: None})
    assert outcome_of(name, found) is Outcome.HOLD
    assert found.outcome is Outcome.HOLD


def test_a_candidate_that_nobody_asked_holds():
    empty = {"requests": 0, "errors": 0, "latency": times(0, 0, 0, 0), "scores": scores(0, 0, 0, 0)}
    assert verdict(**empty, compared=0, differing=0).outcome is Outcome.HOLD


def test_few_requests_neither_pass_nor_fail_by_chance():
    assert outcome_of("error rate", verdict(requests=10, errors=0)) is Outcome.HOLD
    assert outcome_of("error rate", verdict(requests=10, errors=1)) is Outcome.HOLD, "one in ten may be bad luck"
    assert outcome_of("error rate", verdict(requests=10, errors=10)) is Outcome.FAIL, "ten in ten are not"


def test_a_live_release_that_fails_more_than_it_should_is_the_measure():
    failing = replace(GOOD, errors=50)
    assert outcome_of("error rate", verdict(failing, errors=50)) is Outcome.PASS
    assert outcome_of("error rate", verdict(failing, errors=150)) is Outcome.FAIL


def test_without_a_promise_the_live_releases_own_p99_is_the_measure():
    free = Bounds()
    assert outcome_of("p99 latency", verdict(bounds=free)) is Outcome.PASS
    assert outcome_of("p99 latency", verdict(bounds=free, latency=times(0, 0, 100, 900))) is Outcome.FAIL
    assert outcome_of("p99 latency", verdict(replace(GOOD, latency=None), bounds=free)) is Outcome.HOLD


def test_scores_over_other_bounds_are_not_compared():
    other = Histogram(bounds=(0.5, 1.0), counts=(500, 500))
    assert outcome_of("score drift", verdict(scores=other)) is Outcome.HOLD


def test_a_model_without_scores_is_not_asked_for_them():
    found = judge(replace(GOOD, scores=None), replace(GOOD, scores=None), BOUNDS, scored=False, compared=False)
    assert [check.name for check in found.checks] == ["error rate", "p99 latency"]
    assert found.outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("count", "of", "share", "expected"),
    [(1, 10, 0.01, 1 - 0.99**10), (10, 10, 0.5, 0.5**10), (3, 4, 0.5, 5 / 16), (0, 10, 0.0, 1.0), (1, 10, 0.0, 0.0)],
)
def test_chance_is_the_binomials_upper_tail(count, of, share, expected):
    assert chance(count, of, share) == pytest.approx(expected)


@given(st.integers(1, 100_000), st.floats(0.001, 0.2))
def test_chance_falls_with_every_failure_more(of, share):
    mean = math.ceil(of * share)
    found = [chance(min(of, mean + more), of, share) for more in range(0, 200, 20)]
    assert all(0 <= value <= 1 for value in found)
    assert found == sorted(found, reverse=True)


def test_a_healthy_candidate_is_hardly_ever_given_up():
    # 200 looks at 400 requests each, of which one in a hundred fails, as is allowed.
    rolls = random.Random(1)  # noqa: S311  # the same each time
    looks = [sum(rolls.random() < 0.01 for _ in range(400)) for _ in range(200)]
    failed = [errors for errors in looks if outcome_of("error rate", verdict(requests=400, errors=errors)) is FAIL]
    assert len(failed) <= 6, "one look in a hundred is unlucky at most"


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=4).filter(sum))
def test_a_distribution_is_stable_beside_itself(counts):
    assert stability_index(counts, counts) == pytest.approx(0)
    assert stability_index(counts, [each * 7 for each in counts]) == pytest.approx(0, abs=0.2)


def test_buckets_of_prometheus_are_read_as_counts():
    found = histogram({0.1: 10, 0.01: 4, math.inf: 12})
    assert (found.bounds, found.counts) == ((0.01, 0.1, math.inf), (4, 6, 2))
    assert (found.total, found.above(0.1), found.above(0.05)) == (12, 2, 2)
    assert (found.quantile(0.5), found.quantile(0.99)) == (0.1, math.inf)
