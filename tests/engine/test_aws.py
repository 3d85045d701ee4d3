"""The life of an environment on AWS under the real engine: one stack goes through it, the tests judge what was seen."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.engine.aws_provider import RememberingAccount
from tests.engine.conftest import Ran, Registry, engine_env, new_project, steps_of
from tests.engine.kubernetes_provider import RememberingCluster
from tests.engine.remembering_provider import Serving
from tests.infra.aws.environment import platform
from tests.infra.recording import realtime

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.engine

GPU = {"cpu": "2", "memory": "8Gi", "gpu": 1, "accelerator": "nvidia-l4"}
ONE = realtime(releases={"v1": {"model": "models:/fraud/1"}}, scaling={"min": 2})
TWO = realtime(
    releases={"v1": {"model": "models:/fraud/1"}, "v2": {"model": "models:/fraud/2", "resources": GPU}},
    traffic={"v1": 90, "v2": 10},
    scaling={"min": 2},
)

RENAMED = {"models": "artifacts", "cluster": "control-plane", "database": "mlflow", "kafka": "brokers"}

RENAMING = f"""
import pulumi

from infra.platforms.aws import resource

renamed = {RENAMED}
declare = resource.AwsResource.__init__


def declare_renamed(self, token, name, inputs, opts, outputs=()):
    if opts.protect and name in renamed:
        opts = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(aliases=[pulumi.Alias(name=name)]))
        name = renamed[name]
    declare(self, token, name, inputs, opts, outputs)


resource.AwsResource.__init__ = declare_renamed
"""
"""What somebody does who renames what holds data, before the program."""


@dataclass
class Life:
    """What the engine said at each stage."""

    previews: dict[str, str] = field(default_factory=dict)
    updates: dict[str, Ran] = field(default_factory=dict)
    performed: dict[str, list[str]] = field(default_factory=dict)
    state: str = ""
    secrets: set[str] = field(default_factory=set)
    left: dict[str, object] = field(default_factory=dict)

    def steps(self, stage: str) -> dict[str, str]:
        return steps_of(self.previews[stage])


@pytest.fixture(scope="module")
def life(tmp_path_factory, toolchain_bin) -> Life:
    root: Path = tmp_path_factory.mktemp("aws")
    cluster, seen = RememberingCluster(), Life()
    account = RememberingAccount(operations=cluster.operations)
    with Registry() as registry, Serving(cluster) as inside, Serving(account) as outside:
        env = engine_env(root, toolchain_bin, f"{inside.attached},{outside.attached}")
        project = new_project(root, env, registry.url)
        entry = project.directory / "stacks" / "__main__.py"

        def perform(stage: str, update) -> None:
            cluster.forget_operations()
            seen.updates[stage] = update()
            seen.performed[stage] = cluster.performed()

        project.configure(platform=platform(), models={"fraud": ONE}, production=True)
        plan = str(root / "plan.json")
        seen.previews["first"] = project.previewed("--save-plan", plan)
        perform("first", lambda: project.up("--plan", plan))
        seen.state = project.exported()
        seen.secrets = {
            line
            for name, secret in cluster.objects.items()
            if name.startswith("Secret ")
            for key, value in secret["stringData"].items()
            if key != "tls.crt"
            for line in value.splitlines()[1:2] or [value]
        }
        perform("again", lambda: project.up("--expect-no-changes"))

        project.configure(models={"fraud": TWO})
        seen.previews["release"] = project.previewed("--save-plan", plan)
        project.configure(models={"fraud": TWO | {"traffic": {"v1": 50, "v2": 50}}})
        perform("unplanned", lambda: project.up("--plan", plan))

        project.configure(models={"fraud": ONE}, platform=platform(cluster={"systemNodes": {"max": 9}}))
        seen.previews["nodes"] = project.previewed()
        project.configure(platform=platform(gpuPools={"t4": {"accelerator": "nvidia-t4", "max": 2}}))
        seen.previews["pool"] = project.previewed()
        project.configure(platform=platform())
        program = entry.read_text()
        entry.write_text(program.replace("import pulumi\n", RENAMING, 1))
        seen.previews["renamed"] = project.previewed("--show-sames")
        entry.write_text(program)

        # With its preview, as `pulumi destroy` is without `--skip-preview`: that alone refuses before anything goes.
        perform("refused", lambda: project.pulumi("destroy", "--stack", "test", "--yes", "--color", "never"))
        seen.left = dict(account.objects)
        project.configure(production=False)
        perform("unprotected", project.up)
        perform("destroyed", project.destroy)
        assert not account.objects
        assert not cluster.objects
    return seen


def test_an_environment_comes_up_as_it_was_planned(life):
    assert life.updates["first"], life.updates["first"].output
    planned = {step for step, op in life.steps("first").items() if op == "create"}
    assert len(planned) >= 150, "a preview shows the whole environment before any of it exists"


def test_a_second_update_changes_nothing(life):
    assert life.updates["again"], life.updates["again"].output
    assert life.performed["again"] == []


def test_secrets_are_encrypted_in_the_state(life):
    assert life.secrets, "there is none to look for"
    assert not [secret for secret in life.secrets if secret in life.state]


def test_a_new_release_on_a_gpu_changes_the_release_and_the_route(life):
    assert life.steps("release") == {
        "ServiceAccount fraud-v2": "create",
        "Deployment fraud-v2": "create",
        "Service fraud-v2": "create",
        "PodDisruptionBudget fraud-v2": "create",
        "DestinationRule fraud-v2-rule": "create",
        "VirtualService fraud-route": "update",
        "RealtimeModel fraud": "update",
    }


def test_an_update_does_what_was_planned_or_nothing(life):
    assert not life.updates["unplanned"], "somebody approved other weights"
    assert "violates plan" in life.updates["unplanned"].output
    assert life.performed["unplanned"] == []


def test_more_nodes_are_an_update_of_their_group_and_of_nothing_else(life):
    assert life.steps("nodes") == {"NodeGroup system": "update"}


def test_a_new_gpu_pool_adds_its_nodes_and_tells_the_device_plugin_nothing(life):
    assert life.steps("pool") == {"NodeGroup gpu-t4": "create", "LaunchTemplate gpu-t4": "create"}


def test_what_holds_data_can_be_renamed_and_stays(life):
    assert life.steps("renamed") == {}, "an alias is all that a new name takes"
    names = {step["urn"].rpartition("::")[2] for step in json.loads(life.previews["renamed"])["steps"]}
    assert set(RENAMED.values()) <= names, "nothing was renamed at all"


def test_in_production_nothing_that_holds_data_is_destroyed(life):
    assert not life.updates["refused"]
    assert "protect" in life.updates["refused"].output
    kept = {"Cluster cluster", "Cluster kafka", "Instance database", "Bucket models", "Bucket features"}
    assert kept <= life.left.keys()
    assert life.performed["refused"] == [], "what it stands on is not taken away either"


def test_an_environment_goes_from_the_outside_in(life):
    assert life.updates["destroyed"], life.updates["destroyed"].output
    gone = life.performed["destroyed"]
    order = [
        "delete VirtualService fraud-route",
        "delete Deployment fraud-v1",
        "delete Release istio-ingress",
        "delete Release istiod",
        "delete Namespace slipway-models",
        "delete NodeGroup system",
        "delete Cluster cluster",
        "delete Vpc vpc",
    ]
    assert [step for step in gone if step in order] == order, gone
