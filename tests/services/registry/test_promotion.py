"""Promotions and rollbacks on a real MLflow server, by several people at once and by commands that are killed."""

import json
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from typer.testing import CliRunner

from tools import promotion as module
from tools.cli.models import app
from tools.promotion import Entry, history, promote, replay, rollback
from tools.registry import RegistryError, list_versions


@pytest.fixture
def model(mlflow_server, request):
    """A model of nine versions, without files: (URL of its server, name)."""
    client = MlflowClient(mlflow_server, mlflow_server)
    name = f"promoted-{request.node.name.partition('[')[0][-40:]}"
    client.create_registered_model(name)
    for _ in range(9):
        client.create_model_version(name, source="s3://models/none", await_creation_for=0)
    return mlflow_server, name


def alias(model, alias="champion"):
    server, name = model
    return MlflowClient(server, server).get_registered_model(name).aliases.get(alias)


def test_a_promotion_remembers_and_a_rollback_restores_until_there_is_nothing_before(model):
    first = promote(*model, "7")
    assert (first.version, first.previous, first.changed) == ("7", None, True)
    second = promote(*model, "8")
    assert (second.version, second.previous) == ("8", "7")
    assert promote(*model, "8") == module.Standing(
        name=model[1], alias="champion", version="8", previous="7", changed=False
    ), "again: nothing changes, and 7 is still what it goes back to"
    assert alias(model) == "8"
    back = rollback(*model)
    assert (back.version, back.previous, back.changed) == ("7", None, True)
    assert alias(model) == "7"
    with pytest.raises(RegistryError, match=r"is at version 7 → it was promoted from another version"):
        rollback(*model)
    assert alias(model) == "7"
    assert [(entry.action, entry.version) for entry in history(*model)] == [
        ("promote", "7"), ("promote", "8"), ("rollback", "8"),
    ]  # fmt: skip


def test_aliases_of_one_model_have_their_own_pasts(model):
    promote(*model, "1")
    promote(*model, "2", "challenger")
    promote(*model, "3", "challenger")
    assert rollback(*model, "challenger").version == "2"
    assert alias(model) == "1"


def test_an_alias_that_was_set_without_a_log_is_where_it_goes_back_to(model):
    server, name = model
    MlflowClient(server, server).set_registered_model_alias(name, "champion", "4")
    assert promote(*model, "5").previous == "4"
    assert rollback(*model).version == "4"


def test_what_is_not_there_is_named_and_nothing_is_logged(model, mlflow_server):
    with pytest.raises(RegistryError, match="version 99"):
        promote(*model, "99")
    with pytest.raises(RegistryError, match="points nowhere"):
        rollback(*model)
    with pytest.raises(RegistryError, match="'nothing' is not registered"):
        rollback(mlflow_server, "nothing")
    assert history(*model) == []


def test_an_alias_that_somebody_else_moved_is_not_rolled_back_into_the_unknown(model):
    server, name = model
    promote(*model, "1")
    promote(*model, "2")
    MlflowClient(server, server).set_registered_model_alias(name, "champion", "6")
    with pytest.raises(RegistryError, match=r"points at 6, its log at 2 .*promote .*/6"):
        rollback(*model)
    assert promote(*model, "6").previous == "2"
    assert rollback(*model).version == "2"


def test_a_promotion_that_was_killed_half_way_is_finished_by_the_next(model, monkeypatch):
    promote(*model, "1")

    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(module, "_settled", killed)
        with pytest.raises(Killed):
            promote(*model, "2")
    assert alias(model) == "1", "it was logged and not done"
    assert promote(*model, "2").previous == "1"
    assert alias(model) == "2"


SCRIPT = """
import sys
from tools.promotion import promote
server, name, *versions = sys.argv[1:]
for version in versions:
    promote(server, name, version)
"""


def test_people_who_promote_at_once_lose_nothing(model):
    promote(*model, "9")
    wanted = [("1", "2", "3"), ("4", "5", "6")]
    running = [subprocess.Popen([sys.executable, "-c", SCRIPT, *model, *versions]) for versions in wanted]
    assert [each.wait(120) for each in running] == [0, 0]
    entries = history(*model)
    assert sorted(entry.version for entry in entries) == ["1", "2", "3", "4", "5", "6", "9"]
    for versions in wanted:
        mine = [entry.version for entry in entries if entry.version in versions]
        assert mine == list(versions), "each in its own order"
    assert all(first.number < second.number for first, second in pairwise(entries))
    assert alias(model) == entries[-1].version, "the alias is where the log ends"


def entries(*lines):
    return [
        Entry(number=number, action=action, alias="a", version=version, by="me", at_ms=0)
        for number, (action, version) in enumerate(lines, start=1)
    ]


def test_two_who_roll_the_same_version_back_go_back_once():
    lines = [("promote", "1"), ("promote", "2"), ("promote", "3"), ("rollback", "3"), ("rollback", "3")]
    assert replay(entries(*lines), "a") == ["1", "2"]


@given(st.lists(st.tuples(st.sampled_from(["promote", "rollback"]), st.sampled_from("1234")), max_size=30))
def test_whatever_the_log_holds_an_alias_that_was_promoted_points_somewhere_it_was_promoted_to(lines):
    stack = replay(entries(*lines), "a")
    promoted = [version for action, version in lines if action == "promote"]
    assert bool(stack) == bool(promoted)
    assert set(stack) <= set(promoted)
    assert all(first != second for first, second in pairwise(stack)), "going back goes elsewhere"


def run(*arguments):
    return CliRunner().invoke(app, arguments)


def test_the_commands_say_what_they_did_and_what_can_be_undone(model):
    server, name = model
    uri = ("--tracking-uri", server)
    told = run("promote", f"{name}/1", *uri)
    assert told.exit_code == 0, told.output
    assert told.stdout.strip() == f"champion of {name} now points at version 1; there is no version before it"
    assert "already points at version 1" in run("promote", f"{name}/1", *uri).stdout
    assert json.loads(run("promote", f"{name}/2", *uri, "-o", "json").stdout)["previous"] == "1"
    assert "now points at version 1" in run("rollback", name, *uri).stdout
    refused = run("rollback", name, *uri)
    assert refused.exit_code == 1
    assert f"slipway models promote {name}/<version>" in refused.stderr
    assert "a version is promoted" in run("promote", name, *uri).stderr
    lines = json.loads(run("history", name, *uri, "-o", "json").stdout)
    assert [(line["action"], line["version"]) for line in lines] == [
        ("promote", "1"),
        ("promote", "2"),
        ("rollback", "2"),
    ]
    assert "back from 2" in run("history", name, *uri).stdout
    assert not any(each.name.endswith(".promotions") for each in list_versions(server)), "a log is no model"
