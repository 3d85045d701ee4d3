"""Both checklists as people read them; the pre-deployment one goes by the rules that the policy pack blocks by."""

import json
from dataclasses import asdict

import pytest
import yaml

from infra.evidence.checklist import ITEMS, Verdict
from infra.evidence.seal import public_key
from infra.registry.reference import ResolvedModel
from infra.serving.realtime import facts
from tests.infra.evaluated import DIGEST, KEY, STRANGER, document, reading
from tests.infra.recording import realtime, stack
from tools import environment
from tools.checklist import Checklist, counted, pre_deployment
from tools.evaluation.stack import demands
from tools.steps import StepError

GATE = {"enforcement": "mandatory", "signers": [public_key(KEY)], "minimum": {"rocAuc": 0.98}}


def declared(*readings, **keys):
    """A model of as many releases as there are readings."""
    releases = {f"v{number}": {"model": f"models:/fraud/{number}"} for number in range(1, len(readings) + 1)}
    config = stack(models={"fraud": realtime(releases=releases, slo={"p99Ms": 50}, **keys)}, evidence=GATE)
    resolved = {
        name: ResolvedModel(
            reference=release["model"],
            name="fraud",
            version=name[1:],
            digest=DIGEST,
            evidence=readings[int(name[1:]) - 1],
        )
        for name, release in releases.items()
    }
    return facts.inputs("fraud", config.models["fraud"], resolved, config.evidence, production=False)


def lines(*readings, **keys):
    return {verdict.item: verdict for verdict in pre_deployment(declared(*readings, **keys))}


def test_good_evidence_passes_every_line_of_every_release():
    found = lines(reading(document()), reading(document()))
    assert found.keys() == {
        f"{item} {release}" for item in ("evidence", *ITEMS, "regression") for release in ("v1", "v2")
    }
    assert all(verdict.passed for verdict in found.values())
    assert found["regression v1"].shown == "nothing to compare with"
    assert found["regression v2"].shown == "not worse than v1"


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        (None, "it has no evidence"),
        (reading(document(), STRANGER), "not one of slipway:evidence.signers"),
        (reading(document(digest="sha256:" + "e" * 64)), "it would run"),
    ],
)
def test_evidence_that_does_not_count_is_one_line_with_what_to_do(said, wrong):
    verdict = lines(said)["evidence v1"]
    assert not verdict.passed
    assert wrong in verdict.shown
    assert "slipway models evaluate" in verdict.remedy


def test_figures_are_held_against_the_stack_and_the_live_release():
    found = lines(reading(document()), reading(document(holdout={"rocAuc": 0.97}, latency={"p99Ms": 60.0})))
    assert {item for item, verdict in found.items() if not verdict.passed} == {
        "holdout v2",
        "latency v2",
        "regression v2",
    }


def test_pods_that_are_being_deleted_do_not_count():
    def pod(ready, **metadata):
        return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": str(ready)}]}}

    found = counted([pod(True), pod(False), pod(True, deletionTimestamp="now"), {"metadata": {}}], least=2)  # noqa: FBT003
    assert (found.ready, found.wanted) == (1, 3)
    assert counted([pod(True)], least=2).wanted == 2  # noqa: FBT003


def test_json_and_markdown_say_the_same():
    failed = Verdict(item="golden v1", passed=False, shown="a | b", remedy="go back")
    seen = Checklist(
        model="fraud", stack="prod", before=[Verdict(item="load v1", passed=True, shown="900/s")], after=[failed]
    )
    told = json.loads(seen.as_json())
    assert (told["model"], told["stack"], told["passed"]) == ("fraud", "prod", False)
    assert told["post-deployment"] == [asdict(failed)]
    page = seen.as_markdown()
    assert "# fraud in prod: NOT every line holds" in page
    assert "| golden v1 | **FAIL** | a \\| b |  | go back |" in page


STACK = {
    "slipway:evidence": {"minimum": {"rocAuc": 0.9}, "maxAgeDays": 7},
    "slipway:models": {
        "fraud-detector": realtime(
            releases={
                "v1": {"model": "models:/fraud/1"},
                "v2": {
                    "model": "models:/fraud@champion", "env": {"SLIPWAY_MAX_BATCH_ROWS": "64"},
                    "resources": {"memory": "2Gi", "cpuLimit": "4"},
                },
            },
            slo={"p99Ms": 50},
        )
    },
}  # fmt: skip


def test_an_evaluation_is_held_against_what_the_stack_demands_of_that_release():
    found = demands(STACK, "fraud", "7", ("champion",))
    assert (found.bounds.p99_ms, found.bounds.memory_bytes, found.bounds.minimum) == (50, 2 * 2**30, {"rocAuc": 0.9})
    assert found.settings == {"SLIPWAY_TORCH_THREADS": "4", "SLIPWAY_MAX_BATCH_ROWS": "64"}
    assert found.max_age_days == 7
    assert demands(STACK, "fraud", "1").bounds.memory_bytes == 2**30
    unknown = demands(STACK, "other", "1").bounds
    assert (unknown.p99_ms, unknown.memory_bytes) == (None, None)


def test_a_stack_file_that_is_wrong_is_told_with_its_key():
    with pytest.raises(StepError, match=r"slipway:evidence\.enforcement"):
        demands({"slipway:evidence": {"enforcement": "strict"}}, "fraud", "1")


def test_every_preview_and_update_runs_with_the_policy_pack_and_nothing_else_does():
    pack = list(environment.POLICY_PACK)
    for command in ("preview", "up", "update"):
        assert environment.judged([command, "-s", "local"]) == [command, "-s", "local", *pack]
    assert environment.judged(["--color", "never"]) == ["--color", "never"]
    for command in ("destroy", "stack", "config"):
        assert environment.judged([command]) == [command]


def test_the_local_stacks_gate_advises():
    content = yaml.safe_load((environment.STACKS / "Pulumi.local.yaml").read_text())
    assert (content["config"].get("slipway:evidence") or {}).get("enforcement", "advisory") == "advisory"
