"""Evaluations of the example on a real MLflow server, by the real service: what is measured, signed and read back."""

import json
import stat
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from infra.evidence.checklist import ITEMS, Bounds
from infra.evidence.seal import TAG, public_key, read_seal
from services.contract import SERVING_METRICS
from tests.infra.evaluated import content_of
from tools.cli.models import app
from tools.evaluation import evaluate as module
from tools.evaluation.evaluate import QUICK, evaluate
from tools.evaluation.record import CARD_TAG, is_fresh, read, record
from tools.evaluation.signer import key_file, signing_key
from tools.registry import Registration, register_bundle
from tools.steps import StepError, Steps

NAME = "evaluated"
SHORT = replace(QUICK, latency_seconds=1.0, load_seconds=0.5)


@pytest.fixture(scope="module", autouse=True)
def _own_key(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="module")
def version(mlflow_server, bundle):
    """A model of this file's own: evidence changes it."""
    return register_bundle(mlflow_server, Registration(name=NAME, bundle=bundle, metrics={}, parameters={}))


@pytest.fixture(scope="module")
def evidence(mlflow_server, version):
    found = evaluate(mlflow_server, version, replace(SHORT, bounds=Bounds(p99_ms=5000)), Steps())
    record(mlflow_server, found)
    return found


def tags(server, version):
    return MlflowClient(server, server).get_model_version(version.name, version.version).tags


def test_every_item_is_measured_and_the_example_passes(evidence, trained):
    assert evidence.document["items"].keys() == ITEMS.keys()
    assert evidence.passed, [verdict for verdict in evidence.verdicts if not verdict.passed]
    figures = {item: found["figures"] for item, found in evidence.document["items"].items()}
    for ours, theirs in (("rocAuc", "roc_auc"), ("accuracy", "accuracy"), ("f1", "f1"), ("rows", "rows")):
        assert figures["holdout"][ours] == pytest.approx(trained.metrics[theirs], abs=1e-6), "as training measured it"
    assert 0 < figures["latency"]["p50Ms"] <= figures["latency"]["p99Ms"]
    assert figures["latency"]["requests"] == pytest.approx(50, abs=30)
    assert figures["latency"]["errors"] == figures["load"]["errors"] == 0
    assert figures["load"]["requests"] > 20
    assert figures["memory"]["peakBytes"] > 100 * 2**20, "torch alone takes more"
    assert figures["transformer"]["goldenRows"] == 40
    assert set(figures["monitoring"]["series"]) == set(SERVING_METRICS)
    assert figures["rollback"]["first"] is True


def test_the_document_says_what_was_evaluated_when_and_where(evidence, version, bundle):
    said = evidence.document
    assert (said["model"], said["version"], said["digest"]) == (NAME, version.version, version.digest)
    assert said["data"]["rows"] == 114
    assert said["data"]["source"] == "holdout.csv of the artifact"
    assert said["machine"]["cores"] > 0
    assert said["versions"].keys() == {"slipway", "torch", "python"}


def test_the_program_reads_it_back_whole_and_signed_by_the_users_key(evidence, version, mlflow_server):
    found = read(mlflow_server, version)
    assert found.tampered == ""
    assert found.signer == public_key(signing_key())
    assert found.document == evidence.document
    assert is_fresh(found, version, timedelta(days=1))
    assert not is_fresh(found, version, timedelta(0)), "it ages"
    assert not is_fresh(found, replace(version, digest="sha256:" + "0" * 64), timedelta(days=1))
    assert not is_fresh(None, version, timedelta(days=1))


def test_the_card_is_linked_from_the_version_and_says_what_the_evidence_says(evidence, version, mlflow_server):
    location = tags(mlflow_server, version)[CARD_TAG].removeprefix("mlflow-artifacts:/")
    card = httpx.get(f"{mlflow_server}/api/2.0/mlflow-artifacts/artifacts/{location}")
    assert card.is_success, card.text
    assert f"# {NAME} version {version.version}" in card.text
    assert all(f"| {item} | pass |" in card.text for item in ITEMS)
    description = MlflowClient(mlflow_server, mlflow_server).get_model_version(NAME, version.version).description
    assert "model-card.md" in description


@pytest.mark.slow
def test_an_evaluation_that_ends_half_way_leaves_the_evidence_as_it_was(evidence, version, mlflow_server, monkeypatch):
    before = tags(mlflow_server, version)[TAG]

    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(module.questions, "monitored", killed)
        with pytest.raises(Killed):
            record(mlflow_server, evaluate(mlflow_server, version, SHORT, Steps()))
    assert tags(mlflow_server, version)[TAG] == before


def test_a_recording_that_ends_half_way_leaves_the_evidence_as_it_was(evidence, version, mlflow_server, monkeypatch):
    before = tags(mlflow_server, version)[TAG]

    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "set_model_version_tag", killed)
        other = replace(evidence, document=evidence.document | {"evaluatedAt": "2026-01-01T00:00:00+00:00"})
        with pytest.raises(Killed):
            record(mlflow_server, other)
    assert tags(mlflow_server, version)[TAG] == before
    assert read(mlflow_server, version).document == evidence.document


def test_recording_again_replaces_it_and_the_same_again_changes_nothing(evidence, version, mlflow_server):
    newer = replace(evidence, document=evidence.document | {"evaluatedAt": "2026-11-01T00:00:00+00:00"})
    record(mlflow_server, newer)
    assert read(mlflow_server, version).document == newer.document
    assert record(mlflow_server, evidence) == record(mlflow_server, evidence)
    assert read(mlflow_server, version).document == evidence.document


@pytest.mark.parametrize("wrong", ["changed", "gone", "no seal"])
def test_what_somebody_has_changed_in_the_registry_is_told(wrong, evidence, version, mlflow_server):
    client = MlflowClient(mlflow_server, mlflow_server)
    before = tags(mlflow_server, version)[TAG]
    sealed = read_seal(before)
    if wrong == "changed":
        location = sealed.location.replace("evidence.json", "forged.json")
        path = location.removeprefix("mlflow-artifacts:/")
        content = content_of(evidence.document | {"digest": "sha256:" + "0" * 64})
        httpx.put(f"{mlflow_server}/api/2.0/mlflow-artifacts/artifacts/{path}", content=content).raise_for_status()
        tag = replace(sealed, location=location).dump()
    else:
        tag = {"gone": replace(sealed, location=sealed.location + ".gone").dump(), "no seal": "{}"}[wrong]
    client.set_model_version_tag(NAME, version.version, TAG, tag)
    try:
        found = read(mlflow_server, version)
    finally:
        client.set_model_version_tag(NAME, version.version, TAG, before)
    assert found.tampered
    assert found.document == {}


@pytest.mark.slow
def test_data_of_ones_own_are_measured_instead(version, mlflow_server, bundle, tmp_path):
    import pandas as pd  # noqa: PLC0415

    frame = pd.read_csv(bundle / "holdout.csv").rename(columns={"target": "label"}).head(60)
    frame.to_csv(tmp_path / "own.csv", index=False)
    plan = replace(SHORT, data=tmp_path / "own.csv", target="label", bounds=Bounds(p99_ms=0.001))
    found = evaluate(mlflow_server, version, plan, Steps())
    assert found.document["data"]["source"] == "own.csv"
    assert found.document["items"]["holdout"]["figures"]["rows"] == 60
    assert [verdict.item for verdict in found.verdicts if not verdict.passed] == ["latency"], "no service is that fast"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data": "none.csv", "target": "x"}, "No such file"),
        ({"data": "few.csv"}, "--target"),
        ({"data": "few.csv", "target": "x"}, "column 'x'"),
        pytest.param({"data": "few.csv", "target": "label"}, "the data lack", marks=pytest.mark.slow),
    ],
)
def test_data_that_do_not_fit_are_named_with_what_to_do(changed, message, version, mlflow_server, tmp_path):
    (tmp_path / "few.csv").write_text("a,label\n1,0\n")
    plan = replace(SHORT, **(changed | {"data": tmp_path / changed["data"]}))
    with pytest.raises(StepError, match=message):
        evaluate(mlflow_server, version, plan, Steps())


def test_an_artifact_that_is_not_the_registered_one_is_not_evaluated(version, mlflow_server):
    other = replace(version, digest="sha256:" + "0" * 64)
    with pytest.raises(StepError, match=f"has digest {version.digest}"):
        evaluate(mlflow_server, other, SHORT, Steps())


def test_the_key_is_the_users_alone_and_made_once():
    assert public_key(signing_key()) == public_key(signing_key())
    assert stat.S_IMODE(key_file().stat().st_mode) == 0o600
    key_file().chmod(0o644)
    try:
        with pytest.raises(StepError, match="chmod 600"):
            signing_key()
    finally:
        key_file().chmod(0o600)


def run(*arguments):
    return CliRunner().invoke(app, arguments)


def test_the_commands_show_evidence_and_the_signer(evidence, version, mlflow_server):
    uri = ("--tracking-uri", mlflow_server)
    shown = json.loads(run("show", f"{NAME}@champion", *uri, "-o", "json").stdout)
    assert shown["evidence"]["document"]["digest"] == version.digest
    assert [entry["version"] for entry in shown["promotions"]] == [version.version]
    assert "signed by ed25519:" in run("show", NAME, *uri).stdout
    assert run("signer").stdout.strip() == public_key(signing_key())
    listed = json.loads(run("list", *uri, "-o", "json").stdout)
    assert {model["name"]: model["evaluated"] for model in listed}[NAME] is True
    missing = run("show", f"{NAME}@nobody", *uri)
    assert missing.exit_code == 1
    assert "slipway models promote" in missing.stderr


@pytest.mark.slow
def test_the_command_evaluates_and_says_so(version, mlflow_server):
    quick = ("--seconds", "1", "--load-seconds", "1", "--p99-ms", "5000")
    told = run("evaluate", f"{NAME}@champion", *quick, "--tracking-uri", mlflow_server, "-o", "json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["digest"] == version.digest


@pytest.mark.slow
def test_an_item_that_fails_ends_the_command_with_code_1_and_is_recorded_all_the_same(version, mlflow_server):
    quick = ("--seconds", "1", "--load-seconds", "1", "--p99-ms", "0.001")
    told = run("evaluate", NAME, *quick, "--tracking-uri", mlflow_server)
    assert told.exit_code == 1
    assert "latency" in told.stdout
    assert read(mlflow_server, version).document["items"]["latency"]["passed"] is False
