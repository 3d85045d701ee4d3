from __future__ import annotations

import pytest

from tests.golden.rendering import declared, deployed, kept, rendered, stacks
from tests.infra.aws.sdk import problems

REWRITE = "run `python -m tests.golden.rewrite` and read the diff"


@pytest.fixture(scope="module", params=stacks())
def stack(request):
    return request.param


@pytest.fixture(scope="module")
def now(stack):
    return rendered(deployed(stack))


def test_every_object_that_a_stack_declares_has_a_golden(stack, now):
    missing = sorted(now.keys() - kept(stack).keys())
    assert not missing, f"no golden for {missing}: {REWRITE}"


def test_no_golden_outlives_its_object(stack, now):
    orphaned = sorted(kept(stack).keys() - now.keys())
    assert not orphaned, f"nothing declares {orphaned} any more: {REWRITE}"


def test_objects_are_what_their_goldens_say(stack, now):
    goldens = kept(stack)
    for name in sorted(now.keys() & goldens.keys()):
        assert now[name] == goldens[name], f"{stack}/{name} changed: {REWRITE}"


def test_rendering_twice_gives_the_same_objects(stack, now):
    assert rendered(declared(stack)) == now, (
        "an object that differs from run to run would show a change in every preview"
    )


def test_a_preview_declares_what_an_update_does(stack):
    previewed, updated = (
        {(each.type, each.name) for each in deployed(stack, preview=preview).resources} for preview in (True, False)
    )
    assert previewed == updated, "what is unknown before an update must not decide what there is"


def test_production_is_large_enough_to_measure_previews_with():
    assert sum(len(deployed(stack).resources) for stack in ("prod-platform", "prod")) >= 250
    assert len(deployed("prod-platform").resources) >= 150


def test_aws_gets_nothing_that_its_sdk_does_not_know(stack):
    declared_there = [each for each in deployed(stack).resources if each.type.startswith("aws:")]
    assert [said for each in declared_there for said in problems(each.type, each.inputs)] == []
