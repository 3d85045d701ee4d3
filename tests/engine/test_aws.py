"""The life of an environment on AWS under the real engine: one stack goes through it, the tests judge what was seen."""

from __future__ import annotations

import json

import pytest

from tests.engine.aws_provider import RememberingAccount
from tests.engine.conftest import Registry, engine_env, new_project
from tests.engine.kubernetes_provider import RememberingCluster
from tests.engine.lives import RENAMED, Life, live
from tests.engine.record import COMMENT, STATE
from tests.engine.remembering_provider import Serving
from tests.infra.aws.environment import platform
from tools.previews.comment import comment
from tools.previews.plan import read

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def life(tmp_path_factory, toolchain_bin) -> Life:
    return live(tmp_path_factory.mktemp("aws"), toolchain_bin)


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
    assert life.steps("pool") == {"NodePool t4": "create", "EC2NodeClass t4-class": "create"}


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


def test_the_comment_on_a_live_preview_is_the_recorded_one(life):
    """So that the recorded preview, with which everything else about comments is tested, is what the engine says."""
    assert comment(read(life.previews["pull request"])) == COMMENT.read_text(), (
        "run `python -m tests.engine.record` and read the diff"
    )


def test_an_upgrade_replaces_nothing_that_holds_data(upgraded):
    recorded = json.loads(STATE.read_text())["deployment"]["resources"]
    lasting = {each["urn"] for each in recorded if each.get("protect")}
    assert len(lasting) >= 7, "cluster, database, brokers and four buckets"
    steps = {step["urn"]: step["op"] for step in json.loads(upgraded)["steps"]}
    assert {urn: steps.get(urn) for urn in lasting if steps.get(urn) not in {"same", "update"}} == {}


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory, toolchain_bin) -> str:
    """The preview of today's program on the recorded state."""
    root = tmp_path_factory.mktemp("upgrade")
    with Registry() as registry, Serving(RememberingCluster()) as inside, Serving(RememberingAccount()) as outside:
        env = engine_env(root, toolchain_bin, f"{inside.attached},{outside.attached}")
        project = new_project(root, env, registry.url)
        imported = project.pulumi("stack", "import", "--stack", "test", "--file", str(STATE))
        assert imported, imported.output
        project.configure(platform=platform(), models={}, production=True)
        return project.previewed("--show-sames")
