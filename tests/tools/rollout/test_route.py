"""What goes to the cluster ahead of an update is what the update would make."""

from __future__ import annotations

import pytest

from infra.config.models import RealtimeModelConfig
from infra.serving.realtime import routing
from tools.rollout.route import manager_of, releases_of, shifted, weights_of

MANAGER = "pulumi-kubernetes-4f2a"
ALL = {"v1": 100}, {"v2": 100}, {"v1": 95, "v2": 5}


def declared(traffic, **settings):
    """The route as the program declares it."""
    release = {"model": "models:/fraud/1"}
    config = RealtimeModelConfig.model_validate(
        {"kind": "realtime", "releases": {"v1": release, "v2": release, "v3": release}, "traffic": traffic, **settings}
    )
    routes = routing.routes("fraud", config)
    return routing.virtual_service("fraud", "slipway-models", "istio/gateway", routes, {"slipway.dev/model": "fraud"})


def live(manifest, manager=MANAGER):
    """The same as an API server answers."""
    managed = [
        {"manager": "kubectl", "operation": "Update"},
        {"manager": manager, "operation": "Apply"},
    ]
    grown = {"uid": "4d", "resourceVersion": "7", "generation": 2, "managedFields": managed}
    return {**manifest, "metadata": {**manifest["metadata"], **grown}, "status": {}}


@pytest.mark.parametrize("settings", [{}, {"sticky": {"header": "x-user-id"}}, {"shadow": "v3"}])
@pytest.mark.parametrize("before", ALL)
@pytest.mark.parametrize("after", ALL)
def test_a_route_that_is_shifted_is_the_one_that_the_program_declares(before, after, settings):
    found = shifted(live(declared(before, **settings)), "fraud", after, sticky="sticky" in settings)
    assert found == declared(after, **settings)
    assert weights_of(found, "fraud") == after


def test_only_what_pulumi_applied_is_applied_in_its_name():
    assert manager_of(live(declared({"v1": 100}))) == MANAGER
    assert manager_of(live(declared({"v1": 100}), "argocd")) is None


def test_releases_that_are_deployed_are_known_by_their_headers():
    assert releases_of(live(declared({"v1": 100}))) == {"v1", "v2", "v3"}
