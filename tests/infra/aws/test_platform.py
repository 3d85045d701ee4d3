from __future__ import annotations

import json
from functools import cache

import pytest

from infra.config.accelerators import ACCELERATORS
from infra.deploy import deploy
from infra.platforms.aws.iam import UNNAMEABLE
from tests.infra.aws.environment import platform
from tests.infra.aws.sdk import problems
from tests.infra.recording import realtime, record, resolve_without_registry, stack

PREVIEW = pytest.mark.parametrize("preview", [False, True], ids=["update", "preview"])


@cache
def _deployed(changes, preview, production):
    config = stack(
        platform=platform(**json.loads(changes)), models={"fraud": realtime(scaling={"min": 2})}, production=production
    )
    return record(lambda: deploy(config, resolve_without_registry), preview=preview)


def deployed(*, preview=False, production=True, **changes):
    return _deployed(json.dumps(changes), preview, production)


def aws(recorded):
    return [each for each in recorded.resources if each.type.startswith("aws:")]


@PREVIEW
@pytest.mark.parametrize(
    "changes",
    [{}, {"network": {"nat": "none"}}, {"network": {"nat": "one"}, "kafka": {"kind": "serverless"}}],
    ids=["usual", "no way out", "cheap"],
)
def test_every_input_is_one_that_the_sdk_knows(preview, changes):
    found = [said for each in aws(deployed(preview=preview, **changes)) for said in problems(each.type, each.inputs)]
    assert found == []


def test_an_environment_has_more_than_a_hundred_and_fifty_resources():
    assert len(deployed().resources) >= 150, "what the preview's speed is measured with"
