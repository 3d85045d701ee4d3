"""Registering bundles in a real MLflow server, by the functions and by the command."""

import json
import os
import shutil
import subprocess
import sys

import mlflow
import pytest
from typer.testing import CliRunner

from services.contract import BUNDLE_DIGEST_TAG, DIGEST_TAG, directory_digest
from services.inference.runtimes.sources.fetch import Origin, fetch
from tools.cli.models import app
from tools.registry import Registration, RegistryError, list_versions, register_bundle, show_version


def registration(bundle, name="breast-cancer"):
    return Registration(name=name, bundle=bundle, metrics={"roc_auc": 0.99}, parameters={"hidden": 32})


def test_the_digest_on_a_version_is_that_of_what_the_service_downloads(registered, mlflow_server, tmp_path):
    found = fetch(Origin(uri=registered.uri, tracking_uri=mlflow_server), tmp_path)
    assert found.digest == registered.digest
    tags = mlflow.MlflowClient(mlflow_server, mlflow_server).get_model_version("breast-cancer", registered.version).tags
    assert tags[DIGEST_TAG] == registered.digest
    assert tags[BUNDLE_DIGEST_TAG] == registered.bundle_digest
    names = {path.name for path in found.directory.rglob("*") if path.is_file()}
    assert {"MLmodel", "input_example.json", "golden.json", "model.pt"} <= names
    assert "pyproject.toml" not in names, "files of the current directory have no place in an artifact"


def test_registering_the_same_bundle_again_finds_its_version(registered, bundle, mlflow_server):
    again = register_bundle(mlflow_server, registration(bundle))
    assert (again.version, again.created) == (registered.version, False)
    assert registered.created
    assert registered.aliases == ("champion",)
    assert registered.metrics == {"roc_auc": 0.99}
    assert registered.parameters == {"hidden": "32"}


def test_another_bundle_becomes_another_version_and_takes_the_alias(bundle, mlflow_server, tmp_path):
    first = register_bundle(mlflow_server, registration(bundle, "two-versions"))
    changed = tmp_path / "bundle"
    shutil.copytree(bundle, changed)
    (changed / "metrics.json").write_text("{}\n")
    second = register_bundle(mlflow_server, registration(changed, "two-versions"))
    assert (first.version, second.version, second.created) == ("1", "2", True)
    assert second.bundle_digest == directory_digest(changed)
    assert show_version(mlflow_server, "two-versions", "1").aliases == ()
    assert [version.version for version in list_versions(mlflow_server, "two-versions")] == ["2", "1"]


def test_registering_leaves_mlflows_global_state_as_it_was(registered):
    assert not mlflow.is_tracking_uri_set(), "later code would talk to this server without having named it"
    assert "MLFLOW_LOG_UV_FILES" not in os.environ


def test_what_is_not_registered_is_named(registered, mlflow_server):
    with pytest.raises(RegistryError, match="'breast-cancer' version 99"):
        show_version(mlflow_server, "breast-cancer", "99")
    with pytest.raises(RegistryError, match="'nothing'"):
        list_versions(mlflow_server, "nothing")


def run(*arguments):
    return CliRunner().invoke(app, arguments)


@pytest.mark.slow
def test_the_command_trains_registers_and_shows(mlflow_server, registered):
    trained = run("train-example", "--tracking-uri", mlflow_server, "-o", "json")
    assert trained.exit_code == 0, trained.output
    told = json.loads(trained.stdout)
    assert told["bundle_digest"] == registered.bundle_digest, "trained twice on one machine: the same bundle"
    assert (told["version"], told["uri"]) == (registered.version, registered.uri)
    shown = run("show", f"breast-cancer/{registered.version}", "--tracking-uri", mlflow_server, "-o", "json")
    assert json.loads(shown.stdout)["digest"] == registered.digest
    listed = run("list", "--tracking-uri", mlflow_server, "-o", "json")
    assert "breast-cancer" in [model["name"] for model in json.loads(listed.stdout)]
    assert "breast-cancer" in run("list", "--tracking-uri", mlflow_server).stdout
    assert "roc_auc" in run("show", "breast-cancer", "--tracking-uri", mlflow_server).stdout


@pytest.mark.parametrize("arguments", [["list"], ["train-example"], ["show", "x"]])
def test_a_registry_that_is_absent_is_an_error_with_a_remedy(arguments, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for more in ([], ["--tracking-uri", "http://127.0.0.1:1"]):
        result = run(*arguments, *more)
        assert result.exit_code == 1
        assert "make up" in result.stderr
        assert "Traceback" not in result.stderr


def test_importing_the_command_imports_nothing_heavy():
    program = (
        "import sys, tools.cli.models; print([m for m in ('mlflow', 'torch', 'numpy', 'httpx') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]", "every `slipway` command would start seconds later"
