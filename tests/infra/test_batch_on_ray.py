"""Batch models on Ray: the operator, what runs are copies of, who makes the copies, and who may ask whom."""

from __future__ import annotations

import pytest

from infra import names
from infra.deploy import deploy
from infra.errors import ConfigError
from policies.rules.workloads import GPU_TOLERATION, IMAGE_BY_DIGEST, RESOURCE_LIMITS, RESTRICTED, pods
from services.contract import BATCH_MODULE, FINAL_EXIT_CODES, LAUNCH_MODULE, RAY_DASHBOARD_PORT, Env
from services.inference.batch_settings import BatchSettings, LaunchSettings
from tests.infra.recording import RECORDS, batch, record, resolve_without_registry, stack

KUBERAY = {"kuberay": {"enabled": True}}
RAY_JOB = "kubernetes:ray.io/v1:RayJob"
GPU = {"gpu": 2, "accelerator": "nvidia-l4", "memory": "8Gi"}


def configured(gpus=6, **keys):
    return stack(
        platform={"kind": "local", "gpus": {"nvidia-l4": gpus}},
        models={"nightly": batch(engine="ray", **keys)},
        addons=KUBERAY,
    )


def deployed(*, preview=False, **keys):
    config = configured(**keys)
    return record(lambda: deploy(config, resolve_without_registry), preview=preview)


@pytest.fixture(scope="module")
def on_gpus():
    return deployed(ray={"workers": 3}, resources=GPU)


def cluster_of(recorded):
    return recorded.one("RayJob", "nightly")["spec"]["rayClusterSpec"]


def templates_of(recorded):
    cluster = cluster_of(recorded)
    (workers,) = cluster["workerGroupSpecs"]
    return {"head": cluster["headGroupSpec"]["template"], "worker": workers["template"]}


def launching(recorded):
    return recorded.one("CronJob", "nightly")["spec"]["jobTemplate"]["spec"]


def selected(labels, policy):
    return policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("preview", [False, True], ids=["update", "preview"])
def test_the_operator_and_all_of_a_models_objects_are_declared(preview):
    recorded = deployed(preview=preview)
    assert "kuberay" in recorded.of("Deployment")
    assert "kuberay-kinds" in recorded.of("Release")
    for kind in ("CronJob", "RayJob", "NetworkPolicy", "ServiceAccount"):
        assert "nightly" in recorded.of(kind), f"there is no {kind}, and a preview has to show it"


def test_without_the_addon_there_is_nothing_of_it():
    config = stack(models={"nightly": batch()})
    recorded = record(lambda: deploy(config, resolve_without_registry), preview=False)
    assert not [each.name for each in recorded.resources if "ray" in each.name.lower()]


def test_what_runs_are_copies_of_runs_nothing_itself(on_gpus):
    assert on_gpus.one("RayJob", "nightly")["spec"]["suspend"] is True


def test_a_cluster_goes_with_its_job_and_has_the_jobs_deadline():
    spec = deployed(deadlineSeconds=600).one("RayJob", "nightly")["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["activeDeadlineSeconds"] == 600
    assert spec["entrypoint"] == f"python -m {BATCH_MODULE}"


def test_workers_have_the_models_resources_and_the_head_has_no_gpu(on_gpus):
    cluster, templates = cluster_of(on_gpus), templates_of(on_gpus)
    (workers,) = cluster["workerGroupSpecs"]
    assert {workers[key] for key in ("replicas", "minReplicas", "maxReplicas")} == {3}
    assert workers["rayStartParams"]["num-gpus"] == "2"
    assert workers["rayStartParams"]["num-cpus"] == "1", "one scorer in each"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", "nothing is scored on the head"
    worker, head = templates["worker"]["spec"], templates["head"]["spec"]
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert worker["tolerations"]
    assert worker["nodeSelector"]
    assert "nvidia.com/gpu" not in head["containers"][0]["resources"]["limits"]
    assert "nodeSelector" not in head


def test_the_policies_look_into_its_pods(on_gpus):
    spec = on_gpus.one("RayJob", "nightly")
    assert len(pods(RAY_JOB, spec)) == 2
    for rule in (RESTRICTED, RESOURCE_LIMITS, IMAGE_BY_DIGEST, GPU_TOLERATION):
        assert not rule.check(RAY_JOB, spec)
    template = templates_of(on_gpus)["worker"]
    template["spec"].pop("tolerations")
    loose = {"spec": {"rayClusterSpec": {"workerGroupSpecs": [{"template": template}]}}}
    assert GPU_TOLERATION.check(RAY_JOB, loose)


def test_every_pod_of_a_cluster_accepts_what_is_rendered_for_it(on_gpus, monkeypatch):
    for template in templates_of(on_gpus).values():
        container = template["spec"]["containers"][0]
        for variable in Env:
            monkeypatch.delenv(variable, raising=False)
        for variable in container["env"]:
            monkeypatch.setenv(variable["name"], variable.get("value", "x"))
        settings = BatchSettings()
        assert (settings.engine, settings.workers, settings.worker_gpus) == ("ray", 3, 2)
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {str(settings.cache_dir), "/tmp", "/dev/shm"} <= mounts, "the root file system is read-only"


def test_the_schedule_starts_the_launcher_which_says_whether_the_run_held(on_gpus, monkeypatch):
    job = launching(on_gpus)
    container = job["template"]["spec"]["containers"][0]
    assert container["command"] == ["python", "-m", LAUNCH_MODULE]
    (final,) = [rule for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    assert final["onExitCodes"] == {
        "containerName": container["name"],
        "operator": "In",
        "values": list(FINAL_EXIT_CODES),
    }
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable.get("value", "nightly-29402040"))
    settings = LaunchSettings()
    assert settings.rayjob == on_gpus.one("RayJob", "nightly")["metadata"]["name"]
    assert settings.job_name == "nightly-29402040"


def test_the_launcher_may_make_rayjobs_and_the_pods_of_the_cluster_may_not(on_gpus):
    launcher = names.launcher("nightly")
    role = on_gpus.one("Role", f"{launcher}-role")
    assert role["rules"] == [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create", "delete", "get"]}]
    assert role["metadata"]["namespace"] == names.MODELS_NAMESPACE
    subject = on_gpus.one("RoleBinding", f"{launcher}-binding")["subjects"][0]
    pod = launching(on_gpus)["template"]["spec"]
    assert pod["serviceAccountName"] == subject["name"]
    assert pod["automountServiceAccountToken"] is True
    for template in templates_of(on_gpus).values():
        assert template["spec"]["serviceAccountName"] != subject["name"]
        assert template["spec"]["automountServiceAccountToken"] is False, "what scores has no word with the API server"


def test_only_the_cluster_its_launcher_and_the_operator_reach_a_cluster(on_gpus):
    policy = on_gpus.one("NetworkPolicy", "nightly")
    labels = templates_of(on_gpus)["worker"]["metadata"]["labels"]
    assert selected(labels, policy)
    assert not selected(launching(on_gpus)["template"]["metadata"]["labels"], policy), "the launcher is nobody's worker"
    among, asking = policy["spec"]["ingress"]
    assert among["from"][0]["podSelector"]["matchLabels"].items() <= labels.items()
    assert [port["port"] for port in asking["ports"]] == [RAY_DASHBOARD_PORT]
    asked_by = [each["podSelector"]["matchLabels"] for each in asking["from"]]
    callers = [
        on_gpus.one("Deployment", "kuberay")["spec"]["template"]["metadata"]["labels"],
        launching(on_gpus)["template"]["metadata"]["labels"],
    ]
    assert all(wanted.items() <= labels.items() for wanted, labels in zip(asked_by, callers, strict=True))


def test_the_operator_has_rights_in_the_models_namespace_alone_and_none_over_secrets_there(on_gpus):
    assert not [name for name in on_gpus.of("ClusterRole") if "kuberay" in name]
    role = on_gpus.one("Role", "kuberay-models-role")
    assert role["metadata"]["namespace"] == names.MODELS_NAMESPACE
    assert "secrets" not in {kind for rule in role["rules"] for kind in rule["resources"]}


def test_the_image_is_rays_unless_the_model_names_one():
    own = "registry.example/batch@sha256:" + "e" * 64
    for keys, expected in (({}, RECORDS.images["ray"]), ({"image": own}, own)):
        recorded = deployed(**keys)
        found = {pod["containers"][0]["image"] for pod in pods(RAY_JOB, recorded.one("RayJob", "nightly"))}
        assert found == {expected}


def test_each_worker_counts_against_the_quota():
    assert configured(gpus=6, ray={"workers": 3}, resources=GPU)
    with pytest.raises(ConfigError) as raised:
        configured(gpus=5, ray={"workers": 3}, resources=GPU)
    assert "slipway:models.nightly.resources.gpu: 6 at its peak" in raised.value.problems[0]


def test_a_name_that_kuberay_would_not_take_is_refused():
    models = {"a" * 39: batch(engine="ray")}
    with pytest.raises(ConfigError) as raised:
        stack(models=models, addons=KUBERAY)
    assert "at most 38 characters, and this has 39" in raised.value.problems[0]
