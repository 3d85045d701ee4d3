from __future__ import annotations

import json

import pytest

from tests.engine.conftest import problems_in
from tests.infra.recording import batch, realtime

pytestmark = pytest.mark.engine

ONE = realtime(releases={"v1": {"model": "models:/fraud/1"}})
TWO = realtime(
    releases={"v1": {"model": "models:/fraud/1"}, "v2": {"model": "models:/fraud@champion"}},
    traffic={"v1": 50, "v2": 50},
)


def test_a_mistake_in_the_stack_file_stops_the_preview_with_every_problem_and_no_traceback(project, provider):
    project.configure(platform={"kind": "local", "gatewayPrt": 1}, models={"fraud": realtime(traffic={"v1": 90})})
    done = project.preview()
    assert not done
    assert problems_in(done.output) == [
        'slipway:models.fraud.traffic: {"v1": 90} → sums to 100 → change the weights of v1 by +10 in all',
        "slipway:platform.gatewayPrt: 1 → no such key → did you mean gatewayPort?",
    ]
    assert "Traceback" not in done.output, "a mistake in a file is no crash of the program"
    assert provider.performed() == []


def test_a_model_that_the_registry_lacks_stops_the_preview(project, provider):
    project.configure(models={"fraud": realtime(releases={"v1": {"model": "models:/missing/1"}})})
    done = project.preview()
    assert not done
    assert (
        "slipway:models.fraud.releases.v1.model: models:/missing/1 → the registry has no model missing → "
        "register it, or correct the name"
    ) in done.output
    assert "Traceback" not in done.output


def test_an_environment_comes_up_changes_nothing_twice_and_goes_away(project, provider):
    project.configure(models={"fraud": ONE})
    first = project.up()
    assert first, first.output
    assert project.outputs() == {
        "endpoints": {"fraud": "http://127.0.0.1:8080/models/fraud"},
        "gateway": "http://127.0.0.1:8080",
        "mlflow": "http://127.0.0.1:8080/mlflow",
        "prometheus": "http://127.0.0.1:8080/prometheus",
    }
    secret = provider.objects["Secret object-store-mlflow"]["stringData"]["AWS_SECRET_ACCESS_KEY"]
    assert secret not in project.exported(), "credentials are encrypted in the stack's state"

    assert project.steps() == {}, "nothing was edited, so a preview shows nothing"
    provider.forget_operations()
    again = project.up()
    assert again, again.output
    assert provider.performed() == []
    assert provider.objects["Secret object-store-mlflow"]["stringData"]["AWS_SECRET_ACCESS_KEY"] == secret

    gone = project.destroy()
    assert gone, gone.output
    assert provider.objects == {}, "destroy leaves nothing behind"


def test_adding_a_release_changes_only_the_release_and_the_route(project, provider):
    project.configure(models={"fraud": ONE})
    assert project.up()
    project.configure(models={"fraud": TWO})
    assert project.steps() == {
        "ServiceAccount fraud-v2": "create",
        "Deployment fraud-v2": "create",
        "Service fraud-v2": "create",
        "PodDisruptionBudget fraud-v2": "create",
        "DestinationRule fraud-v2-rule": "create",
        "VirtualService fraud-route": "update",
        "RealtimeModel fraud": "update",  # its inputs say what it consists of
    }


def test_a_release_is_ready_before_traffic_reaches_it_and_traffic_leaves_it_before_it_goes(project, provider):
    project.configure(models={"fraud": ONE})
    assert project.up()
    provider.forget_operations()
    project.configure(models={"fraud": TWO})
    added = project.up()
    assert added, added.output
    done = provider.performed()
    assert done[-1] == "update VirtualService fraud-route", "weights come last, when everything they point at is ready"
    assert done.index("create Deployment fraud-v2") < done.index("create Service fraud-v2")

    provider.forget_operations()
    project.configure(models={"fraud": {**TWO, "traffic": {"v2": 100}, "releases": {"v2": TWO["releases"]["v2"]}}})
    removed = project.up()
    assert removed, removed.output
    done = provider.performed()
    assert done[0] == "update VirtualService fraud-route", "no request may be on its way to what is deleted"
    assert sorted(done[1:]) == [
        "delete Deployment fraud-v1",
        "delete DestinationRule fraud-v1-rule",
        "delete PodDisruptionBudget fraud-v1",
        "delete Service fraud-v1",
        "delete ServiceAccount fraud-v1",
    ]


def test_a_release_that_never_gets_ready_fails_the_update_and_traffic_stays_where_it_was(project, provider):
    project.configure(models={"fraud": ONE})
    assert project.up()
    before = provider.objects["VirtualService fraud-route"]
    reason = "pod fraud-v2-0: CrashLoopBackOff: artifact digest sha256:bad differs"
    provider.never_ready["Deployment fraud-v2"] = reason
    project.configure(models={"fraud": TWO})
    done = project.up()
    assert not done
    assert reason in done.output, "the update says what the pod said"
    assert provider.objects["VirtualService fraud-route"] == before, "the old release keeps all the traffic"
    assert "Deployment fraud-v1" in provider.objects

    provider.never_ready.clear()
    repaired = project.up()
    assert repaired, repaired.output
    assert provider.objects["VirtualService fraud-route"] != before, "running it again goes on where it stopped"


def test_an_alias_that_moved_shows_in_the_preview_with_version_and_digest(project, registry):
    project.configure(models={"fraud": realtime(releases={"v1": {"model": "models:/fraud/1"}})})
    assert project.up()
    project.configure(models={"fraud": realtime(releases={"v1": {"model": "models:/fraud@champion"}})})
    done = project.preview("--diff")
    assert done, done.output
    assert f"sha256:{7:064x}" in done.output, "the digest of what will run is part of the diff"
    assert "models:/fraud/7" in done.output


def test_another_port_touches_the_gateway_and_what_says_its_address(project):
    assert project.up()
    project.configure(platform={"kind": "local", "gatewayPort": 9090})
    assert project.steps() == {
        "Release istio-ingress": "update",
        "Mlflow mlflow": "update",  # the component, which says where it is reached
        "Deployment mlflow": "update",
        "Deployment prometheus": "update",
    }


def test_the_stack_file_with_secrets_of_its_own_still_previews(project):
    assert project.pulumi("config", "set", "--stack", "test", "--secret", "kubernetes:kubeconfig", "x")
    done = project.preview()
    assert done, done.output
    assert json.loads(project.pulumi("config", "--stack", "test", "--json").output)["kubernetes:kubeconfig"]["secret"]


def test_kserve_keda_and_kuberay_come_up_after_what_they_need_change_nothing_twice_and_go_away(project, provider):
    project.configure(addons={name: {"enabled": True} for name in ("kserve", "keda", "kuberay")})
    first = project.up()
    assert first, first.output
    made = provider.performed()
    for chain in (
        ("Release keda-kinds", "Deployment keda-operator", "Deployment keda-metrics-api", "APIService keda"),
        ("Release kuberay-kinds", "Deployment kuberay"),
        ("Release keda-kinds", "Deployment kserve", "Service kserve", "MutatingWebhookConfiguration kserve-mutating"),
    ):
        steps = [f"create {each}" for each in chain]
        assert sorted(steps, key=made.index) == steps, "each needs the one before"
    keys = [provider.objects[f"Secret {name}"]["stringData"]["tls.key"] for name in ("kserve", "keda")]
    assert all(key.startswith("-----BEGIN PRIVATE KEY-----") for key in keys)
    exported = project.exported()
    assert not [key for key in keys if key.splitlines()[1] in exported], "keys are encrypted in the stack's state"

    assert project.steps() == {}, "a certificate is made once"
    assert project.destroy()
    assert provider.objects == {}


def test_a_new_model_gets_its_alerts_by_files_that_are_there_before_the_old_ones_go(project, provider):
    project.configure(models={"fraud": ONE})
    assert project.up()
    provider.forget_operations()
    project.configure(models={"fraud": ONE, "churn": ONE})
    assert project.up()
    steps = [step for step in provider.performed() if step.endswith(" prometheus")]
    assert steps == ["create ConfigMap prometheus", "update Deployment prometheus", "delete ConfigMap prometheus"]


def test_an_edit_of_a_batch_models_schedule_changes_its_cron_job_and_nothing_else(project, provider):
    project.configure(models={"nightly": batch(model="models:/fraud/1")})
    first = project.up()
    assert first, first.output
    assert project.steps() == {}
    project.configure(models={"nightly": batch(model="models:/fraud/1", schedule="30 3 * * *")})
    assert project.steps() == {
        "CronJob nightly": "update",
        "BatchModel nightly": "update",  # its inputs say when it is due
    }
    done = project.up()
    assert done, done.output
    assert provider.objects["CronJob nightly"]["spec"]["schedule"] == "30 3 * * *"
