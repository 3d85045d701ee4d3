from __future__ import annotations

import pytest

from policies.rules import RULES
from tests.engine.conftest import ROOT
from tests.infra.recording import realtime

pytestmark = pytest.mark.engine

PACK = ("--policy-pack", str(ROOT / "policies"))

LOOSE_PROGRAM = """
import pulumi_kubernetes as k8s

k8s.core.v1.Namespace("n", metadata={"name": "n"})
k8s.apps.v1.Deployment("d", metadata={"name": "d"}, spec={"selector": {"matchLabels": {"a": "b"}}, "template": {
    "metadata": {"labels": {"a": "b"}},
    "spec": {"containers": [{"name": "main", "image": "model:latest", "securityContext": {"privileged": True}}]},
}})
"""


def test_the_pack_passes_what_the_program_declares(project):
    project.configure(models={"fraud": realtime()})
    done = project.preview(*PACK)
    assert done, done.output
    assert "slipway" in done.output.partition("Polic")[2], "the pack did not run at all"


VIOLATIONS = {
    "image-by-digest": "container main has image model:latest",
    "resource-limits": "container main has no requests.cpu",
    "probes": "container main has no readinessProbe, livenessProbe",
    "restricted": "container main is privileged",
    "namespace-pod-security": "namespace n enforces nothing",
}


def test_the_pack_fails_a_preview_and_names_every_violation_with_its_remedy(project):
    (project.directory / "stacks" / "__main__.py").write_text(LOOSE_PROGRAM)
    done = project.preview(*PACK)
    assert not done, "a preview in a pull request must fail"
    for rule, wrong in VIOLATIONS.items():
        assert f"[mandatory]  {rule}" in done.output, f"{rule} did not speak:\n{done.output}"
        assert wrong in done.output


def test_the_pack_blocks_an_update_before_anything_that_violates_it_exists(project, provider):
    (project.directory / "stacks" / "__main__.py").write_text(LOOSE_PROGRAM)
    done = project.up(*PACK)
    assert not done
    assert provider.objects == {}


def test_the_pack_knows_every_rule_that_is_tested_here():
    assert VIOLATIONS.keys() == {rule.name for rule in RULES}
