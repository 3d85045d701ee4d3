from __future__ import annotations

import json

import pytest
import yaml

from infra.config.parse import parse
from tests.infra.recording import RECORDS
from tools import doctor, paths, scaffold
from tools.doctor import checkout
from tools.steps import StepError

AWS = {
    "stack": "dev",
    "account": "123456789012",
    "region": "eu-central-1",
    "admin": "arn:aws:iam::123456789012:role/deployer",
    "host": "models.example.com",
    "certificate": "arn:aws:acm:eu-central-1:123456789012:certificate/0123",
}


def config_of(content):
    return yaml.safe_load(content)["config"]


def values(config):
    return {key: json.dumps(value) for key, value in config.items()}


@pytest.mark.parametrize(("platform", "said"), [("local", {"stack": "laptop"}), ("aws", AWS)])
def test_a_new_stack_file_is_one_that_the_program_takes(platform, said):
    parsed = parse(values(config_of(scaffold.render(platform, said))), RECORDS)
    assert parsed.platform.kind == platform


@pytest.mark.parametrize(("platform", "said"), [("local", {"stack": "laptop"}), ("aws", AWS)])
def test_what_stands_in_its_comments_can_be_taken_out_of_them(platform, said):
    """Every commented key on its own is one that the program takes where it stands."""
    lines = scaffold.render(platform, said).splitlines()
    commented = [at for at, line in enumerate(lines) if line.lstrip().startswith("# ") and ": " in line.split("#")[1]]
    tried = 0
    for at in commented:
        indented, _, key = lines[at].partition("# ")
        if not key.split(":")[0].isidentifier() or not lines[at].startswith("    "):
            continue
        changed = [*lines[:at], f"{indented}{key}", *lines[at + 1 :]]
        checked, found = checkout.configuration(config_of("\n".join(changed)))
        # A public gateway says who may call: the two keys go together, and the error says so.
        assert checked is not None or "says who may call" in str(found[0]), f"{key}: {found}"
        tried += 1
    assert tried >= 2


def test_a_stack_file_that_is_there_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    path = scaffold.write("dev", "mine")
    with pytest.raises(StepError, match="is there already"):
        scaffold.write("dev", "another")
    assert path.read_text() == "mine"


def test_what_a_file_needs_and_was_not_said_is_named():
    with pytest.raises(StepError, match=r"--certificate, --host: missing"):
        scaffold.render("aws", {name: said for name, said in AWS.items() if name not in {"host", "certificate"}})
    with pytest.raises(StepError, match="one of: aws, local"):
        scaffold.render("azure", {})


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"account": "12"}, r"slipway:platform\.account"),
        ({"certificate": "mine"}, r"slipway:platform\.gateway\.certificate"),
        ({"region": "x: ["}, "no stack file"),
    ],
)
def test_a_value_that_the_program_would_refuse_makes_no_file(said, problem):
    with pytest.raises(StepError, match=problem):
        scaffold.render("aws", {**AWS, **said})


@pytest.mark.parametrize("stack", ["", "../dev", ".dev", "a b", "x" * 101])
def test_a_name_that_no_stack_can_have_makes_no_file(stack, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    with pytest.raises(StepError, match="a stack's name"):
        scaffold.write(stack, "mine")
    assert list(tmp_path.rglob("*")) == []


@pytest.fixture
def build(tmp_path):
    (tmp_path / "images.json").write_text(json.dumps(dict(RECORDS.images)))
    (tmp_path / "toolchain.json").write_text(json.dumps({"istio_charts": str(tmp_path)}))
    return tmp_path


LOCAL = {"slipway:platform": {"kind": "local"}, "slipway:models": {}}


def states(config, build, context="mine"):
    return {
        each.subject: each
        for each in doctor.examine(config, build, {"PULUMI_BACKEND_URL": "file:///x"}, context=context)
    }


def test_a_stack_with_all_it_needs_has_nothing_bad(build):
    found = states(LOCAL, build)
    del found["pulumi"]  # which this machine has or has not
    assert {each.state for each in found.values()} == {"good", "unknown"}
    assert found["machine"].state == "unknown", "somebody else's cluster is told as not checked"


def test_a_mistake_in_the_stack_file_is_told_and_all_that_could_not_be_checked(build):
    found = states({**LOCAL, "slipway:platform": {"kind": "local", "gatewayPrt": 1}}, build)
    assert "did you mean gatewayPort?" in str(found["stack file"])
    assert [found[each].state for each in ("images", "charts", "platform")] == ["unknown"] * 3


def test_missing_images_and_charts_are_named_with_the_command_that_makes_them(build):
    (build / "images.json").write_text("{}")
    found = states({**LOCAL, "slipway:addons": {"keda": {"enabled": True}}}, build)
    assert "mlflow" in str(found["images"])
    assert "`slipway images build`" in str(found["images"])
    assert "`slipway toolchain build`" in str(found["charts of keda"])
    (build / "toolchain.json").write_text(json.dumps({"istio_charts": "/not/there"}))
    assert "a directory that is there" in str(states(LOCAL, build)["charts of istio"])
