from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from infra.evidence.seal import public_key
from policies.rules import RULES, STACK_RULES
from tests.engine.conftest import ROOT
from tests.infra.evaluated import KEY, STRANGER, document
from tests.infra.recording import realtime
from tests.tokens import ISSUER

pytestmark = pytest.mark.engine

PACK = ("--policy-pack", str(ROOT / "policies"))

LOOSE_PROGRAM = """
import json

import pulumi
import pulumi_kubernetes as k8s

k8s.core.v1.Namespace("n", metadata={"name": "n"})
k8s.apps.v1.Deployment("d", metadata={"name": "d"}, spec={"selector": {"matchLabels": {"a": "b"}}, "template": {
    "metadata": {"labels": {"a": "b"}},
    "spec": {"containers": [{"name": "main", "image": "model:latest", "securityContext": {"privileged": True},
                             "resources": {"limits": {"nvidia.com/gpu": "1"}}}]},
}})

reached = {"production": True, "publicUrl": "https://m.example.com/mlflow", "login": []}
pulumi.ComponentResource("slipway:addons:Mlflow", "m", reached)
pulumi.ComponentResource("slipway:addons:Istio", "i", {"production": True, "mtls": False})

untagged = pulumi.ProviderResource("aws", "untagged", {"region": "eu-central-1"})
options = pulumi.ResourceOptions(providers=[untagged])
platform = pulumi.ComponentResource("slipway:platforms:AwsPlatform", "aws", {}, options)
platform.register_outputs({"production": True, "monthlyBudget": 1})


def aws(token, name, **inputs):
    pulumi.CustomResource(f"aws:{token}", name, inputs, pulumi.ResourceOptions(parent=platform))


anything = json.dumps({"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})
aws("iam/rolePolicy:RolePolicy", "role", role="r", policy=anything)
aws("ec2/launchTemplate:LaunchTemplate", "template", metadataOptions={"httpTokens": "optional"})
aws("rds/instance:Instance", "database", publiclyAccessible=True, instanceClass="db.t4g.medium", allocatedStorage=20)
aws("eks/nodeGroup:NodeGroup", "pool", labels={"slipway.dev/accelerator": "nvidia-l4"}, capacityType="SPOT",
    instanceTypes=["g6.xlarge"], scalingConfig={"minSize": 0, "maxSize": 1})
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
    "gpu-toleration": "container main has a nvidia.com/gpu limit and its pod no toleration",
    "production-registry-login": "whoever reaches https://m.example.com/mlflow may change the registry",
    "production-mutual-tls": "models answer whoever reaches their pods, unencrypted",
    "aws-encryption": "its disk is not encrypted",
    "aws-public-access": "the internet reaches the database",
    "aws-wildcard": "s3:* is allowed",
    "aws-imdsv2": "the metadata service answers without a session (IMDSv1)",
    "aws-gpu-pool": "its nodes have no taint nvidia.com/gpu",
    "aws-tags": "what it makes has no tag slipway:environment",
    "aws-production-protection": "Instance database: it can be deleted",
    "aws-budget": "the budget is 1",
}

ADVICE = {"aws-production-spot": "NodeGroup pool: AWS may take its nodes back within two minutes"}


def test_the_pack_fails_a_preview_and_names_every_violation_with_its_remedy(project):
    (project.directory / "stacks" / "__main__.py").write_text(LOOSE_PROGRAM)
    done = project.preview(*PACK)
    assert not done, "a preview in a pull request must fail"
    for rule, wrong in VIOLATIONS.items():
        assert f"[mandatory]  {rule}" in done.output, f"{rule} did not speak:\n{done.output}"
        assert wrong in done.output
    for rule, wrong in ADVICE.items():
        assert wrong in told(done.output, rule, "advisory"), f"{rule} did not speak:\n{done.output}"


def test_the_pack_blocks_an_update_before_anything_that_violates_it_exists(project, provider):
    (project.directory / "stacks" / "__main__.py").write_text(LOOSE_PROGRAM)
    done = project.up(*PACK)
    assert not done
    assert provider.objects == {}


OLD = datetime.now(UTC) - timedelta(days=31)
GATE = {"enforcement": "mandatory", "signers": [public_key(KEY)], "minimum": {"rocAuc": 0.98}}

BAD = {
    "missing": ("evidence-missing", "models:/missing-evidence/1: it has no evidence"),
    "tampered": ("evidence-tampered", "its evidence was changed: the file has SHA-256"),
    "forged": ("evidence-forged", "who is not one of slipway:evidence.signers"),
    "other": ("evidence-other-artifact", "its evidence is of artifact sha256:eeee"),
    "stale": ("evidence-stale", "its evidence is 31 days old, at most 30 are allowed"),
    "slow": ("evidence-checklist", "latency: p50 3 ms, p99 51 ms at 50/s"),
    "weak": ("evidence-minimum", "rocAuc is 0.9, at least 0.98 is demanded"),
    "worse": ("evidence-regression", "rocAuc is 0.981, 0.999 in the live release, by more than 0.01 worse (v1)"),
    "unpinned": ("production-pinned-model", "models:/unpinned@champion can move"),
    "alone": ("production-replicas", "it runs 1 replica at least"),
}
"""Rule and words by the model that breaks it: one stack shows them all."""


def model(name, **keys):
    return realtime(**{"scaling": {"min": 2}, "releases": {"v1": {"model": f"models:/{name}/1"}}, **keys})


def models_that_break_a_rule_each(registry):
    """Models of a stack, and their evidence in the registry."""
    registry.add("tampered", "1", document_of_registry())
    content, sealed = registry.evidence["tampered", "1"]
    registry.evidence["tampered", "1"] = (content.replace(b"0.96", b"0.99"), sealed)
    registry.add("forged", "1", document_of_registry(), STRANGER)
    registry.add("other", "1", document_of_registry() | {"digest": "sha256:" + "e" * 64})
    registry.add("stale", "1", document_of_registry(at=OLD))
    registry.add("slow", "1", document_of_registry(latency={"p99Ms": 51.0}))
    registry.add("weak", "1", document_of_registry(holdout={"rocAuc": 0.9}))
    registry.add("worse", "1", document_of_registry(holdout={"rocAuc": 0.999}))
    registry.add("worse", "2", document_of_registry(holdout={"rocAuc": 0.981}))
    registry.add("unpinned", "7", document_of_registry())
    registry.add("alone", "1", document_of_registry())
    two = {"v1": {"model": "models:/worse/1"}, "v2": {"model": "models:/worse/2"}}
    return {
        **{name: model(name) for name in ("tampered", "forged", "other", "stale", "weak")},
        "missing": model("missing-evidence"),
        "slow": model("slow", slo={"p99Ms": 50}),
        "worse": model("worse", releases=two, traffic={"v1": 90, "v2": 10}),
        "unpinned": model("unpinned", releases={"v1": {"model": "models:/unpinned@champion"}}),
        "alone": model("alone", scaling={"min": 1}),
    }


def document_of_registry(**keys):
    """Evidence without a digest: the registry of these tests adds the one of the version."""
    said = document(**keys)
    del said["digest"]
    return said


def told(output, rule, level):
    """What the engine prints below a rule's headings, one for each resource."""
    heading = rf"\[{level}\]\s+{re.escape(rule)}\s(.*?)(?=\[(?:mandatory|advisory)\]|\Z)"
    return "\n".join(re.findall(heading, output, re.DOTALL))


def test_every_bad_release_blocks_the_preview_under_its_rule_and_good_ones_pass(project, registry):
    bad = models_that_break_a_rule_each(registry)
    addons = {"mlflow": {"login": [ISSUER]}, "istio": {"mtls": "strict"}}
    project.configure(models=bad, evidence=GATE, production=True, addons=addons)
    done = project.preview(*PACK)
    assert not done, done.output
    for name, (rule, wrong) in BAD.items():
        said = told(done.output, rule, "mandatory")
        assert wrong in said, f"{rule} did not speak of {name}:\n{done.output}"
        assert re.findall(r"slipway:models\.(\S+)\.releases", said) == [name], f"{rule} speaks of others too:\n{said}"

    good = {"unpinned": model("alone"), "worse": bad["worse"] | {"traffic": {"v1": 100, "v2": 0}}}
    project.configure(models=good)
    passed = project.preview(*PACK)
    assert passed, passed.output
    assert wrong_words("evidence-regression") in told(passed.output, "evidence-regression-advice", "advisory"), (
        "no request reaches v2: it is told, not blocked"
    )


def wrong_words(rule):
    return next(wrong for judged, wrong in BAD.values() if judged == rule)


def test_the_same_evidence_is_advice_where_the_stack_says_so(project, registry):
    project.configure(models=models_that_break_a_rule_each(registry), evidence=GATE | {"enforcement": "advisory"})
    done = project.preview(*PACK)
    assert done, done.output
    for rule, wrong in BAD.values():
        if rule.startswith("evidence-"):
            assert wrong in told(done.output, f"{rule}-advice", "advisory"), f"{rule}:\n{done.output}"


def test_the_pack_knows_every_rule_that_is_tested_here():
    known = {rule.name for rule in (*RULES, *STACK_RULES)}
    assert VIOLATIONS.keys() | ADVICE.keys() | {rule for rule, _ in BAD.values()} == known
