"""What others say of what we render: checkov of AWS resources and Kubernetes objects, kube-score of the
latter, parliament of IAM's documents, actionlint of our workflows.

Each runs in an environment of its own, pinned here: their dependencies are not ours.
"""

from __future__ import annotations

import fnmatch
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from infra.deploy import deploy
from tests.golden.rendering import GOLDEN, stacks
from tests.infra.aws.environment import platform
from tests.infra.recording import realtime, record, resolve_without_registry, stack
from tests.judges.terraform import plan

pytestmark = pytest.mark.slow

CHECKOV = ("--from", "checkov==3.3.30", "checkov", "--quiet", "--compact", "--skip-download", "--output", "json")
PARLIAMENT = ("--from", "parliament==1.6.4", "--with", "setuptools==80.9.0", "parliament", "--json")
"""parliament imports pkg_resources, which newer setuptools are without."""

KUBE_SCORE = "github.com/zegl/kube-score/cmd/kube-score@v1.20.0"
GRADES_BELOW_GOOD = (1, 5)
"""Critical and warning, as kube-score counts."""

ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.9"

WORKFLOWS = GOLDEN.parents[1] / ".github" / "workflows"

WAIVERS = yaml.safe_load(Path(__file__).with_name("waivers.yaml").read_text())


def judge(*command: str) -> str:
    done = subprocess.run(["uv", "tool", "run", *command], capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr[-3000:]
    return done.stdout


def verdict(judge_name: str, findings: set[tuple[str, str, str]]) -> tuple[list[str], set[int]]:
    """Findings (check, resource, words) without a waiver, and which waivers waived something."""
    used, left = set(), []
    for check, resource, words in sorted(findings):
        waived = [
            at
            for at, each in enumerate(WAIVERS[judge_name])
            if each["check"] == check and fnmatch.fnmatchcase(resource, each["resource"])
        ]
        used |= set(waived[:1])
        if not waived:
            left.append(f"{check} {resource}: {words}")
    return left, used


def checkov(*arguments: str) -> set[tuple[str, str, str]]:
    said = json.loads(judge(*CHECKOV, *arguments))
    assert said["summary"]["parsing_errors"] == 0
    assert said["summary"]["passed"] > 100, "it judged next to nothing"
    return {(each["check_id"], each["resource"], each["check_name"]) for each in said["results"]["failed_checks"]}


@pytest.fixture(scope="module")
def rendered():
    """An environment in production with everything there is."""
    config = stack(platform=platform(), models={"fraud": realtime(scaling={"min": 2})}, production=True)
    return [
        each
        for each in record(lambda: deploy(config, resolve_without_registry), preview=False).resources
        if each.type.startswith("aws:")
    ]


@pytest.fixture(scope="module")
def by_checkov(rendered, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkov") / "plan.json"
    path.write_text(json.dumps(plan(rendered)))
    aws = checkov("--file", str(path), "--framework", "terraform_plan")
    return verdict("checkov", aws | checkov("--directory", str(GOLDEN), "--framework", "kubernetes"))


@pytest.fixture(scope="module")
def by_kube_score():
    """Of the objects of each stack together: what selects what is part of it."""
    found = set()
    for name in stacks():
        files = [
            str(path)
            for path in sorted((GOLDEN / name).glob("*.yaml"))
            if ".release." not in path.name and not path.name.startswith("aws.")
        ]
        command = ["go", "run", KUBE_SCORE, "score", "--output-format", "json", *files]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        judged = json.loads(done.stdout)
        assert len(judged) > 5, done.stderr
        found |= {
            (check["check"]["id"], each["object_name"], comment["summary"])
            for each in judged
            for check in each["checks"]
            if check["grade"] in GRADES_BELOW_GOOD and not check.get("skipped")
            for comment in check["comments"] or []
        }
    return verdict("kube-score", found)


@pytest.fixture(scope="module")
def by_parliament(rendered, tmp_path_factory):
    """Of what roles may and of what resources let others do; who may take a role is no document that it reads."""
    directory = tmp_path_factory.mktemp("parliament")
    for each in rendered:
        if isinstance(each.inputs.get("policy"), str) and "Statement" in each.inputs["policy"]:
            (directory / f"{each.name}.json").write_text(each.inputs["policy"])
    assert len(list(directory.iterdir())) > 10
    said = judge(*PARLIAMENT, "--directory", str(directory), "--include_policy_extension", "json")
    found = [json.loads(line) for line in said.splitlines()]
    return verdict(
        "parliament", {(each["issue"], Path(each["location"]["filepath"]).stem, str(each["detail"])) for each in found}
    )


@pytest.mark.parametrize("name", ["checkov", "kube_score", "parliament"])
def test_every_finding_is_mended_or_waived_with_a_reason(name, request):
    left, _ = request.getfixturevalue(f"by_{name}")
    assert left == []


@pytest.mark.parametrize("name", ["checkov", "kube_score", "parliament"])
def test_no_waiver_outlives_its_finding(name, request):
    _, used = request.getfixturevalue(f"by_{name}")
    assert [each for at, each in enumerate(WAIVERS[name.replace("_", "-")]) if at not in used] == []


def test_actionlint_finds_nothing_in_the_workflows():
    workflows = sorted(map(str, WORKFLOWS.glob("*.yml")))
    assert workflows
    done = subprocess.run(["go", "run", ACTIONLINT, *workflows], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
