"""The repository's own stacks of production under the real engine, and a program of others on top of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.engine.aws_provider import RememberingAccount
from tests.engine.conftest import ROOT, Project, Ran, Registry, engine_env, new_project
from tests.engine.kubernetes_provider import RememberingCluster
from tests.engine.lives import PACK
from tests.engine.remembering_provider import Serving
from tests.golden.rendering import STACKS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.engine

PLATFORM = "organization/slipway/prod-platform"

OUTSIDE = """
import json
import os

import pulumi

from infra.components import BatchModel, StreamModel

environment = json.loads(os.environ["ENVIRONMENT"])
models = json.loads(os.environ["MODELS"])


class FromAnyLanguage(pulumi.ComponentResource):
    endpoint: pulumi.Output[str]

    def __init__(self, name, model):
        args = {"environment": environment, "model": model, "endpoint": None}
        super().__init__("slipway:index:RealtimeModel", name, args, remote=True)


pulumi.export("endpoint", FromAnyLanguage("shop", models["realtime"]).endpoint)
pulumi.export("schedule", BatchModel("nightly", {"environment": environment, "model": models["batch"]}).schedule)
pulumi.export("group", StreamModel("payments", {"environment": environment, "model": models["stream"]}).group)
"""
"""A program of somebody else: one model as any language declares it, two as Python does."""

MODELS = {
    "realtime": {"releases": {"v1": {"model": "models:/shop/1"}}, "traffic": {"v1": 100}, "scaling": {"min": 2}},
    "batch": {
        "model": "models:/nightly/1",
        "input": "features/a/date={date}",
        "output": "predictions/a/date={date}",
        "schedule": "0 2 * * *",
    },
    "stream": {
        "model": "models:/payments/1",
        "input": "card-payments",
        "output": "card-scores",
        "deadLetter": "card-dead-letters",
        "scaling": {"min": 2, "max": 4, "lag": 100},
    },
}


@dataclass
class Seen:
    updates: dict[str, Ran] = field(default_factory=dict)
    again: dict[str, Ran] = field(default_factory=dict)
    performed: dict[str, list[str]] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    schema: dict[str, Any] = field(default_factory=dict)


def config_of(stack: str) -> dict[str, Any]:
    content = yaml.safe_load((STACKS / f"Pulumi.{stack}.yaml").read_text())["config"]
    return {key.removeprefix("slipway:"): value for key, value in content.items()}


def outside(root: Path, env: dict[str, str], environment: dict[str, Any]) -> Project:
    directory = root / "outside"
    (directory / "stacks").mkdir(parents=True)
    plugins = {"providers": [{"name": "slipway", "path": str(ROOT / "components")}]}
    (directory / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "outside", "runtime": "python", "plugins": plugins}))
    (directory / "__main__.py").write_text(OUTSIDE)
    said = {"ENVIRONMENT": json.dumps(environment), "MODELS": json.dumps(MODELS)}
    made = Project(directory=directory, env=env | said, registry_url="", stack="theirs")
    initialised = made.pulumi("stack", "init", "theirs")
    assert initialised, initialised.output
    return made


@pytest.fixture(scope="module")
def seen(tmp_path_factory, toolchain_bin) -> Seen:
    root, found = tmp_path_factory.mktemp("stacks"), Seen()
    cluster = RememberingCluster()
    account = RememberingAccount(operations=cluster.operations)
    with Registry() as registry, Serving(cluster) as inside, Serving(account) as beyond:
        env = engine_env(root, toolchain_bin, f"{inside.attached},{beyond.attached}")

        def perform(stack: str, project: Project, *arguments: str) -> None:
            cluster.forget_operations()
            found.updates[stack] = project.up(*arguments)
            assert found.updates[stack], found.updates[stack].output
            found.performed[stack] = cluster.performed()
            found.outputs[stack] = project.outputs()
            found.again[stack] = project.preview("--expect-no-changes")

        platform = new_project(root, env, registry.url, "prod-platform")
        configured = config_of("prod-platform")
        del configured["platform"]["permissionsBoundary"]  # a fact that is None reaches nobody: the engine drops it
        platform.configure(**configured)
        perform("prod-platform", platform, *PACK)

        models = new_project(root, env, registry.url, "prod")
        configured = config_of("prod")
        configured["platform"] |= {"stack": PLATFORM}
        models.configure(**configured)
        perform("prod", models)

        environment = {key: configured[key] for key in ("platform", "images", "topics", "production", "addons")}
        environment |= {"registry": {"url": registry.url}, "checklist": {"enabled": False}}
        theirs = outside(root, env, environment)
        perform("outside", theirs)
        said = theirs.pulumi("package", "get-schema", str(ROOT / "components")).output
        found.schema = json.loads(said[said.index("{") :])
    return found


@pytest.mark.parametrize("stack", ["prod-platform", "prod", "outside"])
def test_a_stack_comes_up_and_changes_nothing_twice(seen, stack):
    assert seen.updates[stack], seen.updates[stack].output
    assert seen.again[stack], seen.again[stack].output


def test_models_in_production_touch_nothing_of_their_platform(seen):
    made = {step.split()[1] for step in seen.performed["prod"]}
    assert not made & {"Vpc", "Cluster", "Bucket", "Instance", "NodeGroup"}
    assert "create Deployment document-classifier-v7" in seen.performed["prod"]


def test_somebody_elses_program_declares_models_of_every_kind(seen):
    assert seen.outputs["outside"] == {
        "endpoint": "https://models.example.com/models/shop",
        "schedule": "0 2 * * *",
        "group": "payments",
    }
    made = {step for step in seen.performed["outside"] if step.split()[1] in {"Deployment", "CronJob", "ScaledObject"}}
    assert {"create Deployment shop-v1", "create CronJob nightly", "create Deployment payments"} <= made


def test_somebody_elses_models_have_roles_of_their_own(seen):
    roles = {step for step in seen.performed["outside"] if step.startswith("create Role ")}
    assert {"create Role nightly", "create Role payments"} <= roles


def test_any_language_finds_the_components_and_what_they_take(seen):
    components = seen.schema["resources"]
    assert set(components) == {f"slipway:index:{kind}Model" for kind in ("Realtime", "Batch", "Stream")}
    for described in components.values():
        assert described["isComponent"]
        assert set(described["requiredInputs"]) == {"environment", "model"}
