from __future__ import annotations

import json

import pytest

from tests.engine.record import COMMENT, PREVIEW
from tools.previews.comment import MOST_ROWS, comment
from tools.previews.plan import read
from tools.steps import StepError

MODEL = "slipway:serving:RealtimeModel"
BATCH_MODEL = "slipway:serving:BatchModel"


def preview(*steps, **document):
    """A preview of steps, each `(operation, type, name, inputs before, inputs after)`."""
    return json.dumps(
        {
            "steps": [
                {
                    "op": op,
                    "urn": f"urn:pulumi:prod::slipway::{type_}::{name}",
                    "oldState": None if before is None else {"inputs": before},
                    "newState": None if after is None else {"inputs": after},
                }
                for op, type_, name, before, after in steps
            ],
            **document,
        }
    )


def told(*steps, **document):
    return comment(read(preview(*steps, **document)))


def model(*, replicas=2, gpus=None, evidence=None, traffic=None):
    release = {"uri": "models:/fraud/1", "digest": "sha256:" + "1" * 64, "gpus": gpus, "evidence": evidence}
    return {"releases": {"v1": release}, "scaling": {"min": 1, "max": replicas}, "traffic": traffic or {"v1": 100}}


def test_the_comment_on_a_recorded_preview_is_its_golden():
    assert comment(read(PREVIEW.read_text())) == COMMENT.read_text(), "run `python -m tests.engine.record`"


def test_the_engines_order_of_steps_does_not_show():
    recorded = json.loads(PREVIEW.read_text())
    recorded["steps"].reverse()
    assert comment(read(json.dumps(recorded))) == COMMENT.read_text()


def test_what_is_replaced_stands_first_and_is_red():
    said = told(("replace", "aws:rds/instance:Instance", "database", DATABASE, DATABASE | {"dbName": "other"}))
    assert said.index("### Replaced") < said.index("### Cost")
    assert "- 🔴 **Instance `database` is deleted and made anew**" in said
    assert "1 to replace" in said


DATABASE = {"instanceClass": "db.t4g.medium", "allocatedStorage": 100}


def test_a_second_copy_of_a_database_doubles_its_cost():
    said = told(("update", "aws:rds/instance:Instance", "database", DATABASE, DATABASE | {"multiAz": True}))
    # 730 hours at 0.065, and 100 GB at 0.115
    assert "| what always runs | 59 | 118 USD |" in said


def test_what_has_no_price_is_named_and_not_taken_for_nothing():
    said = told(("create", "aws:rds/instance:Instance", "database", None, DATABASE | {"instanceClass": "db.x9.huge"}))
    assert "Not priced: db.x9.huge." in said


def test_a_rollout_on_gpus_needs_a_replica_more_than_before_and_after():
    platform = json.dumps({"kind": "local", "gpus": {"nvidia-l4": 2}})
    gpus = {"accelerator": "nvidia-l4", "count": 1}
    said = told(
        ("update", MODEL, "fraud", model(gpus=gpus), model(gpus=gpus, replicas=3)),
        config={"slipway:platform": platform},
    )
    assert "| nvidia-l4 | 2 | 🔴 4 | 3 | 2 |" in said


def test_all_pods_of_a_run_on_ray_count_and_no_more():
    platform = json.dumps({"kind": "local", "gpus": {"nvidia-l4": 2}})
    release = {"uri": "models:/churn/1", "digest": "", "gpus": {"accelerator": "nvidia-l4", "count": 2}}
    churn = {"pods": 3, "releases": {"batch": release}}
    said = told(("create", BATCH_MODEL, "churn", None, churn), config={"slipway:platform": platform})
    assert "| nvidia-l4 | 0 | 🔴 6 | 6 | 2 |" in said


def test_the_traffic_of_a_model_stands_before_and_after():
    said = told(("update", MODEL, "fraud", model(), model(traffic={"v1": 0, "v2": 100})))
    assert "| fraud | v1 100% | v2 100% |" in said


def test_a_release_shows_the_figures_of_its_evidence():
    evidence = {"document": {"evaluatedAt": "2026-11-01T00:00:00+00:00", "holdout": {"rocAuc": 0.98765}}}
    said = told(("create", MODEL, "fraud", None, model(evidence=evidence)))
    assert "evidence of 2026-11-01T00:00:00+00:00: rocAuc 0.9877" in said
    assert "without evidence" in told(("create", MODEL, "fraud", None, model()))


def test_a_violated_rule_is_told_with_its_remedy_though_the_engine_is_silent_about_it():
    namespace = ("create", "kubernetes:core/v1:Namespace", "n", None, {"metadata": {"name": "n"}})
    assert (
        "- 🔴 **namespace-pod-security** Namespace `n`: namespace n enforces nothing → "
        "label it pod-security.kubernetes.io/enforce=restricted"
    ) in told(namespace)


def test_a_preview_that_failed_says_why_and_not_twice():
    said = told(
        diagnostics=[
            {"severity": "error", "message": "error: slipway:models.a: no such key → …\n  and another"},
            {"severity": "error", "message": "error: an unhandled error occurred: Program exited with non-zero exit …"},
        ]
    )
    assert "the preview failed" in said
    assert "- 🔴 slipway:models.a: no such key → …\n    and another" in said
    assert "unhandled" not in said


def test_a_long_list_of_changes_ends_and_says_how_many_there_are():
    made = [("create", "kubernetes:core/v1:Service", f"s{number}", None, {}) for number in range(MOST_ROWS + 5)]
    assert "| … | 5 more |" in told(*made)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("not JSON", "not a preview: Expecting value.* → run that"),
        ("{}", "not a preview: neither steps nor diagnostics"),
        ('{"steps": [{"op": "same"}]}', "pulumi preview --json"),
        (preview(changeSummary={"same": 3}), "--show-sames"),
    ],
)
def test_what_is_no_whole_preview_is_refused_with_the_command_that_makes_one(text, remedy):
    with pytest.raises(StepError, match=remedy):
        read(text)
