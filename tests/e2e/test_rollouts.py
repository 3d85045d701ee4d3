"""Releases under live load: what a stack file says is what callers get, and a bad candidate does not stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter

import httpx
import pytest

from tests.e2e.callers import Callers, until

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(3600)]

MODEL = "breast-cancer"
UNUSUAL = {"mean radius": 2000.0}
"""What the failing candidate cannot take, also where the transformer has clipped it."""

UNCHECKED = {"enabled": False}
"""Candidates of these tests are bad on purpose: what finds that is the rollout."""


@pytest.fixture(scope="module")
def rows(golden):
    return [row["features"] for row in golden]


@pytest.fixture(scope="module", autouse=True)
def releases(site, versions):
    """Every candidate deployed beside v1, without traffic; they stay."""
    small = {"cpu": "25m", "cpuLimit": "1"}

    def add(config):
        config["slipway:checklist"] = UNCHECKED
        model = config["slipway:models"][MODEL]
        model["slo"] = {"p99Ms": 400}
        for kind, version in versions.items():
            model["releases"][kind] = {"model": f"models:/{MODEL}/{version}", "resources": small}

    site.edit(add)
    site.pulumi("up", "--yes", "--skip-preview")


def standing(site):
    return json.loads(site.slipway("rollout", "status", MODEL, "-o", "json").stdout)


def answered_by(site, rows, count, **headers):
    """Requests by release, over one connection."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with httpx.Client(timeout=30, headers=named) as client:
        return Counter(
            client.post(f"{site.endpoint}/predict", json={"features": rows[at % len(rows)]}).headers["x-model-version"]
            for at in range(count)
        )


def prometheus(site, query):
    found = httpx.post(f"http://127.0.0.1:{site.port}/prometheus/api/v1/query", data={"query": query}).json()
    return sum(float(each["value"][1]) for each in found["data"]["result"])


def test_weights_are_kept_within_what_chance_allows_and_headers_exactly(site, rows):
    site.slipway("rollout", "set", MODEL, "v1=80", "good=20")
    found = answered_by(site, rows, 2000)
    site.figure("share of a release with weight 20, of 2000 requests", found["good"] / 2000 * 100, "%")
    assert 325 <= found["good"] <= 475, f"{found}: 400 ± 75 is left once in fifty thousand runs"
    assert found["v1"] + found["good"] == 2000
    for release in ("v1", "good", "slow"):
        assert answered_by(site, rows, 20, x_model_version=release) == {release: 20}
    site.slipway("rollout", "rollback", MODEL)
    assert answered_by(site, rows, 50) == {"v1": 50}


def test_the_same_caller_keeps_its_release(site, rows):
    original = site.stack_file.read_text()

    def sticky(config):
        config["slipway:models"][MODEL]["sticky"] = {"header": "x-user-id"}
        config["slipway:models"][MODEL]["traffic"] = {"v1": 50, "good": 50}

    try:
        site.edit(sticky)
        site.pulumi("up", "--yes", "--skip-preview")
        first = [set(answered_by(site, rows, 8, x_user_id=f"user-{at}")) for at in range(40)]
        assert all(len(each) == 1 for each in first), "one caller, one release"
        assert {release for each in first for release in each} == {"v1", "good"}
    finally:
        site.stack_file.write_text(original)
    site.pulumi("up", "--yes", "--skip-preview")


def test_a_shadow_sees_every_request_and_no_caller_sees_it(site, rows):
    original = site.stack_file.read_text()

    def shadow(config):
        model = config["slipway:models"][MODEL]
        model["shadow"], model["mirror"] = "different", {"comparePercent": 100}

    def seen():
        return prometheus(site, f'slipway_requests_total{{model="{MODEL}",release="different",protocol="predict"}}')

    def disagreeing():
        return prometheus(site, 'slipway_shadow_rows_total{release="different",result="mismatch"}')

    try:
        site.edit(shadow)
        site.pulumi("up", "--yes", "--skip-preview")
        before = seen()
        assert answered_by(site, rows, 300) == {"v1": 300}
        until(lambda: seen() - before >= 300 and disagreeing() >= 300)
        assert seen() - before == 300, "each once"
    finally:
        site.stack_file.write_text(original)
    site.pulumi("up", "--yes", "--skip-preview")


def test_no_request_fails_from_one_release_to_the_next_and_back(site, rows):
    def give_all_to(release):
        return lambda config: config["slipway:models"][MODEL].update(traffic={release: 100})

    with Callers(site.endpoint, rows, pause=0.03) as callers:
        site.edit(give_all_to("good"))
        started = time.monotonic()
        site.pulumi("up", "--yes", "--skip-preview")
        callers.served(100)
        forth = callers.first_by("good", started) - started
        all_of_it = callers.last_by("v1") - started
        decided = time.monotonic()
        site.slipway("rollout", "rollback", MODEL)
        back = callers.first_by("v1", decided) - decided
        callers.served(100)
    assert set(callers.statuses) == {200}
    assert set(callers.releases) == {"v1", "good"}
    site.figure("answers from v1 to v2 and back, none failed", callers.statuses[200], "answers")
    site.figure("edit of the stack file: from `pulumi up` to the first answer of the new release", forth, "s", 10)
    site.figure("edit of the stack file: from `pulumi up` to the last answer of the old release", all_of_it, "s", 10)
    site.figure("rollout rollback: command to the first answer of the old release", back, "s", 5)
    now = standing(site)
    assert now["agree"]
    assert now["cluster"] == {"v1": 100}


@pytest.mark.parametrize(
    ("kind", "reason"), [("failing", "error rate"), ("slow", "p99 latency"), ("different", "score drift")]
)
def test_a_bad_candidate_is_given_up_by_itself_before_many_have_met_it(site, rows, kind, reason):
    asked = [*rows, *({**row, **UNUSUAL} for row in rows[:8])] if kind == "failing" else rows
    with Callers(site.endpoint, asked, pause=0.02) as callers:
        started = time.monotonic()
        done = site.slipway(
            "rollout",
            "run",
            MODEL,
            "--to",
            kind,
            "--steps",
            "5,25,50,100",
            "--bake",
            "60s",
            "--look",
            "3s",
            check=False,
        )
        taken = time.monotonic() - started
    assert done.returncode == 1, done.stdout[-3000:]
    assert f"given up: at 5%: {reason}" in done.stdout, done.stdout[-3000:]
    exposed = callers.releases[kind] / len(callers.answers)
    site.figure(f"a candidate that is {kind}: exposed requests", exposed * 100, "%", 10)
    site.figure(f"a candidate that is {kind}: from its first request to the end of the command", taken, "s")
    assert exposed < 0.1
    now = standing(site)
    assert now["agree"]
    assert now["cluster"] == {"v1": 100}
    (report,) = [
        path for path in (site.checkout / "build" / "rollouts").glob("*.md") if f"to {kind}" in path.read_text()
    ]
    assert reason in report.read_text()


def test_a_rollout_that_is_killed_is_taken_up_and_ends(site, rows):
    command = [sys.executable, "-m", "tools.cli.main", "rollout", "run", MODEL, "--to", "good", "--steps", "20,100"]
    command += ["--bake", "12s", "--look", "3s"]
    with Callers(site.endpoint, rows, pause=0.02) as callers:
        with subprocess.Popen(
            command, cwd=site.checkout, env=site.variables, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as running:
            for line in running.stdout:
                if line.startswith("step 1 of 2"):
                    os.killpg(running.pid, 9)
                    break
        unfinished = standing(site)
        assert "at 20%" in unfinished["rollout"]
        done = site.slipway("rollout", "set", MODEL, "v1=100", check=False)
        assert "is under way" in done.stderr
        done = site.slipway("rollout", "run", MODEL, "--bake", "12s", "--look", "3s")
        assert "goes on with" in done.stdout
        assert "done: good 100%" in done.stdout
    assert set(callers.statuses) == {200}
    now = standing(site)
    assert now["agree"]
    assert now["rollout"] is None
    assert now["cluster"] == {"good": 100}
    site.slipway("rollout", "set", MODEL, "v1=100")


EVIDENCE = """
import json, sys
from dataclasses import replace
from tools.evaluation import record as records
from tools.evaluation.evaluate import Evidence
from tools.registry import show_version
url, number, at = sys.argv[1:4]
source = show_version(url, "breast-cancer", "1")
version = show_version(url, "breast-cancer", number)
document = {**records.read(url, source).document, "version": number, "digest": version.digest}
if at != "now":
    document["evaluatedAt"] = at
print(json.dumps(records.record(url, Evidence(version=version, document=document, verdicts=[])).signer))
"""


def seal(site, number, at="now", **variables):
    """Evidence of a version, made of the first one's."""
    return site.python("-c", EVIDENCE, site.mlflow, number, at, **variables)


def test_evidence_that_is_missing_stale_or_forged_stops_the_preview(site, versions, tmp_path):
    original = site.stack_file.read_text()
    signer = site.slipway("models", "signer").stdout.strip().splitlines()[-1]

    def gated(config):
        config["slipway:evidence"] = {"enforcement": "mandatory", "signers": [signer]}
        model = config["slipway:models"][MODEL]
        # How quick the model was when it was measured, on a machine that does other things, is not what is asked here.
        model["traffic"], model["slo"] = {"v1": 90, "good": 10}, {"p99Ms": 60_000}

    try:
        site.edit(gated)
        for said, prepare in (
            ("evidence-missing", lambda: None),
            ("evidence-stale", lambda: seal(site, versions["good"], "2026-01-01T00:00:00+00:00")),
            ("evidence-forged", lambda: seal(site, versions["good"], XDG_CONFIG_HOME=str(tmp_path))),
        ):
            prepare()
            done = site.pulumi("preview", check=False)
            assert done.returncode != 0, said
            assert f"[mandatory]  {said} " in done.stdout + done.stderr
        seal(site, versions["good"])
        site.pulumi("preview")
    finally:
        site.stack_file.write_text(original)


def test_replicas_follow_the_requests_and_none_is_lost(site, rows):
    original = site.stack_file.read_text()

    def replicas():
        found = site.kubectl("get", "deployment", "-n", "slipway-models", f"{MODEL}-v1", "-o", "json")
        return json.loads(found)["status"].get("readyReplicas", 0)

    def scaling(config):
        config["slipway:models"][MODEL]["scaling"] = {
            "min": 1, "max": 2, "requestsPerSecond": 15, "down": {"percent": 100, "seconds": 15, "waitSeconds": 0},
        }  # fmt: skip

    try:
        site.edit(scaling)
        site.pulumi("up", "--yes", "--skip-preview")
        with Callers(site.endpoint, rows, pause=0.04) as callers:
            started = time.monotonic()
            until(lambda: replicas() == 2, seconds=180)
            site.figure("autoscaling: from the load to the second replica", time.monotonic() - started, "s")
            callers.served(100)
        started = time.monotonic()
        until(lambda: replicas() == 1, seconds=180)
        site.figure("autoscaling: from the end of the load to one replica", time.monotonic() - started, "s")
        assert set(callers.statuses) == {200}
        site.pulumi("preview", "--expect-no-changes")
    finally:
        site.stack_file.write_text(original)
    site.pulumi("up", "--yes", "--skip-preview")
