"""Batch models, from the stack file to the CronJob, and the job's own settings at its end."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from infra import names
from infra.config.workload import PROGRAMS_ENV
from infra.deploy import deploy
from infra.errors import ConfigError
from policies.rules.evidence import RULES
from policies.rules.models import BATCH_MODEL
from policies.rules.production import PINNED, REPLICAS
from policies.rules.workloads import RESOURCE_LIMITS, RESTRICTED
from services.contract import BATCH_MODULE, FINAL_EXIT_CODES, Env
from services.inference.adapters.batch import errors
from services.inference.batch_settings import BatchSettings
from tests.infra.recording import DIGEST, RECORDS, batch, realtime, record, resolve_without_registry, stack

PREVIEW = pytest.mark.parametrize("preview", [False, True], ids=["update", "preview"])

CRON_JOB = "kubernetes:batch/v1:CronJob"


def deployed(*, preview=False, production=False, **keys):
    config = stack(models={"nightly": batch(**keys)}, production=production)
    return record(lambda: deploy(config, resolve_without_registry), preview=preview)


def container_of(recorded):
    job = recorded.one("CronJob", "nightly")["spec"]["jobTemplate"]["spec"]
    return job["template"]["spec"]["containers"][0]


def problem_of(**keys):
    with pytest.raises(ConfigError) as raised:
        stack(models={"nightly": batch(**keys)})
    (problem,) = raised.value.problems
    return problem


@PREVIEW
def test_a_batch_model_is_a_cron_job_an_account_and_a_policy(preview):
    recorded = deployed(preview=preview)
    for kind in ("CronJob", "ServiceAccount", "NetworkPolicy"):
        assert "nightly" in recorded.of(kind), f"there is no {kind}, and a preview has to show it"
    assert recorded.outputs["endpoints"] == {}, "nothing of it answers requests"


def test_a_stack_may_have_models_of_both_kinds():
    config = stack(models={"nightly": batch(), "fraud": realtime()})
    recorded = record(lambda: deploy(config, resolve_without_registry), preview=False)
    assert list(recorded.outputs["endpoints"]) == ["fraud"]
    assert {"BatchModel", "RealtimeModel"} <= {resource.kind for resource in recorded.resources}


def test_the_job_accepts_the_environment_that_is_rendered_for_it(monkeypatch):
    recorded = deployed(passthrough=["id", "site"], quarantineShare=0.01, partRows=500, day="yesterday")
    for variable in Env:
        monkeypatch.delenv(variable, raising=False)
    for variable in container_of(recorded)["env"]:
        monkeypatch.setenv(variable["name"], variable.get("value", "nightly-29402040"))
    settings = BatchSettings()
    assert settings.model_name == "nightly"
    assert settings.model_uri == "models:/breast-cancer/1"
    assert settings.model_digest == DIGEST
    assert settings.input == "s3://slipway-features/patients/date={date}"
    assert settings.output == "s3://slipway-predictions/patients/date={date}"
    assert settings.passthrough == ("id", "site")
    assert settings.quarantine_share == 0.01
    assert settings.part_rows == 500
    assert settings.s3_endpoint_url == "http://object-store.slipway-platform.svc.cluster.local:7070"
    due = datetime.fromtimestamp(29402040 * 60, UTC)
    later = datetime(2030, 1, 1, tzinfo=UTC)
    assert settings.began(later) == due, "a pod that is tried again the next day is for the day of its Job"
    assert (due.date() - settings.date(later)).days == 1, "yesterday was asked for"


def test_no_passthrough_is_not_the_same_as_all(monkeypatch):
    for keys, expected in (({}, None), ({"passthrough": []}, ())):
        for variable in Env:
            monkeypatch.delenv(variable, raising=False)
        for variable in container_of(deployed(**keys))["env"]:
            monkeypatch.setenv(variable["name"], variable.get("value", "x"))
        assert BatchSettings().passthrough == expected


def test_the_day_is_that_of_the_stacks_time_zone(monkeypatch):
    for variable in Env:
        monkeypatch.delenv(variable, raising=False)
    for name, value in {"MODEL_NAME": "m", "MODEL_URI": "/m", "BATCH_INPUT": "/in", "BATCH_OUTPUT": "/out"}.items():
        monkeypatch.setenv(Env[name], value)
    monkeypatch.setenv(Env.BATCH_TIMEZONE, "Europe/Berlin")
    assert BatchSettings().date(datetime(2026, 7, 1, 23, 30, tzinfo=UTC)) == date(2026, 7, 2)
    monkeypatch.setenv(Env.BATCH_TIMEZONE, "Europe/Berlim")
    with pytest.raises(ValueError, match="IANA"):
        BatchSettings()


def test_every_variable_that_the_program_sets_is_refused_in_a_stack():
    ours = {variable["name"] for variable in container_of(deployed(passthrough=["id"]))["env"]} & set(Env)
    refused = PROGRAMS_ENV | {Env.S3_ENDPOINT_URL}
    assert ours <= refused, f"a stack that sets {ours - refused} would silently win over the program"
    assert "the platform's" in problem_of(env={Env.S3_ENDPOINT_URL: "http://elsewhere"})
    assert "the platform's" in problem_of(env={"AWS_ACCESS_KEY_ID": "mine"})


def test_credentials_reach_the_pod_by_reference_and_are_the_batch_users_own():
    recorded = deployed()
    container = container_of(recorded)
    secrets = {
        v["name"]: v["valueFrom"]["secretKeyRef"]["name"]
        for v in container["env"]
        if "secretKeyRef" in v.get("valueFrom", {})
    }
    assert secrets == dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "object-store-batch")
    owners = {
        (secret.inputs["metadata"]["namespace"], secret.inputs["metadata"]["name"])
        for secret in recorded.of("Secret").values()
    }
    assert (names.MODELS_NAMESPACE, "object-store-batch") in owners, "a pod can only read secrets of its namespace"
    assert (names.MODELS_NAMESPACE, "object-store-mlflow") not in owners, "a job needs no way to the artifacts' bucket"


def test_the_pod_is_restricted_has_no_token_and_writes_to_volumes_only():
    spec = deployed().one("CronJob", "nightly")
    for rule in (RESTRICTED, RESOURCE_LIMITS):
        assert not rule.check(CRON_JOB, spec)
    pod = spec["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    environment = {variable["name"]: variable.get("value") for variable in pod["containers"][0]["env"]}
    assert {environment[Env.CACHE_DIR], environment["HOME"]} <= mounts


def test_its_pods_reach_the_registry_and_s3_and_nobody_reaches_them():
    recorded = deployed()
    policy = recorded.one("NetworkPolicy", "nightly")["spec"]
    assert policy["policyTypes"] == ["Egress"]
    assert len(policy["egress"]) == 1, "the registry"
    pod = recorded.one("CronJob", "nightly")["spec"]["jobTemplate"]["spec"]["template"]
    clients = recorded.one("NetworkPolicy", "object-store-models-policy")
    assert clients["metadata"]["namespace"] == names.MODELS_NAMESPACE
    assert clients["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    allowed = recorded.one("NetworkPolicy", "object-store-policy")["spec"]["ingress"][0]["from"]
    assert len(allowed) == 2, "clients of both namespaces"


def test_runs_follow_one_another_and_end():
    spec = deployed(timezone="Europe/Berlin", suspend=True, deadlineSeconds=600, retries=1).one("CronJob", "nightly")
    spec = spec["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert (spec["schedule"], spec["timeZone"], spec["suspend"]) == ("0 2 * * *", "Europe/Berlin", True)
    job = spec["jobTemplate"]["spec"]
    assert (job["activeDeadlineSeconds"], job["backoffLimit"]) == (600, 1)
    assert job["template"]["spec"]["restartPolicy"] == "Never", "podFailurePolicy is for no other"


def test_what_another_try_would_meet_again_ends_the_run_at_once():
    job = deployed().one("CronJob", "nightly")["spec"]["jobTemplate"]["spec"]
    (rule,) = [rule for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    assert rule["onExitCodes"]["values"] == list(FINAL_EXIT_CODES)
    assert rule["onExitCodes"]["containerName"] == container_of(deployed())["name"]
    for error in (errors.InvalidInput, errors.TooManyRefused):
        assert error.exit_code in FINAL_EXIT_CODES
    for error in (errors.StoreUnavailable, errors.AccessDenied, errors.NoSuchBucket, errors.Overtaken):
        assert error.exit_code not in FINAL_EXIT_CODES, "it may be mended while the job is tried again"


def test_the_image_is_that_of_batch_jobs_unless_the_model_names_one():
    own = "registry.example/batch@sha256:" + "e" * 64
    assert container_of(deployed())["image"] == RECORDS.images["batch"]
    assert container_of(deployed(image=own))["image"] == own
    assert container_of(deployed())["command"] == ["python", "-m", BATCH_MODULE]


def test_a_gpu_is_asked_for_where_it_is():
    config = stack(
        platform={"kind": "local", "gpus": {"nvidia-l4": 1}},
        models={"nightly": batch(resources={"gpu": 1, "accelerator": "nvidia-l4"})},
    )
    recorded = record(lambda: deploy(config, resolve_without_registry), preview=False)
    assert container_of(recorded)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    pod = recorded.one("CronJob", "nightly")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["tolerations"]
    assert pod["nodeSelector"]


def test_a_gpu_that_no_node_has_is_refused():
    problem = problem_of(resources={"gpu": 1, "accelerator": "nvidia-l4"})
    assert problem.startswith("slipway:models.nightly.resources.gpu: 1 at its peak")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (
            {"schedule": "0 2 * *"},
            'slipway:models.nightly.schedule: "0 2 * *" → minute, hour, day of the month, month and day of the week → '
            'write five fields, "0 2 * * *" for two in the morning',
        ),
        (
            {"schedule": "0 24 * * *"},
            "slipway:models.nightly.schedule: \"0 24 * * *\" → '24' is no hour, which goes from 0 to 23 → "
            'write five fields, "0 2 * * *" for two in the morning',
        ),
        (
            {"timezone": "Mars/Olympus"},
            'slipway:models.nightly.timezone: "Mars/Olympus" → a time zone of the IANA database → '
            "write UTC, or a name like Europe/Berlin",
        ),
        (
            {"input": "s3://elsewhere/x"},
            'slipway:models.nightly.input: "s3://elsewhere/x" → a path below one of the platform\'s buckets → '
            "write features/<path> or predictions/<path>, of letters, digits and ._=*?{}[]-",
        ),
        (
            {"output": "features/x"},
            'slipway:models.nightly.output: "features/x" → a bucket of the platform and what is below it → '
            "start with predictions/",
        ),
        (
            {"input": "features/{day}"},
            'slipway:models.nightly.input: "features/{day}" → the only thing in braces is {date} → '
            "write {date}, or drop the braces",
        ),
        (
            {"output": "predictions/*"},
            'slipway:models.nightly.output: "predictions/*" → one place → drop the wildcard',
        ),
        (
            {"engine": "ray"},
            'slipway:models.nightly.engine: "ray" → needs KubeRay in the cluster → '
            "set addons.kuberay.enabled, or engine local",
        ),
        (
            {"ray": {"workers": 3}},
            'slipway:models.nightly.ray: "set" → is for engine ray, and this one is local → drop it, or set engine',
        ),
        (
            {"day": "yesterday", "input": "features/x", "output": "predictions/x"},
            'slipway:models.nightly.day: "yesterday" → is what {date} stands for → '
            "write {date} in input and output, or drop it",
        ),
        (
            {"input": "predictions/a/b", "output": "predictions/a"},
            'slipway:models.nightly.output: "predictions/a" → lies beside the input, not around it → '
            "choose another place",
        ),
        (
            {"quarantineShare": 2},
            "slipway:models.nightly.quarantineShare: 2 → at most 1.0 → lower it",
        ),
        (
            {"schedul": "0 2 * * *"},
            'slipway:models.nightly.schedul: "0 2 * * *" → no such key → did you mean schedule?',
        ),
        (
            {"passthrough": ["a,b"]},
            'slipway:models.nightly.passthrough: ["a,b"] → names of columns without commas → '
            "rename 'a,b' in the input, or drop it",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_would_not_do_what_it_says_is_refused_with_the_remedy(keys, problem):
    assert problem_of(**keys) == problem


@pytest.mark.parametrize("schedule", ["@daily", "*/15 0-6,22-23 1 jan-jun mon", "0 2 * * 1-5", "5 4 ? * SUN"])
def test_schedules_are_crons(schedule):
    assert stack(models={"nightly": batch(schedule=schedule)}).models["nightly"].schedule == schedule


def test_evidence_and_pins_are_asked_of_batch_models_too_and_replicas_are_not():
    (facts,) = [
        each.inputs
        for each in deployed(production=True, model="models:/breast-cancer@champion").resources
        if each.type == BATCH_MODEL
    ]
    facts["gate"]["enforcement"] = "mandatory"
    missing = next(rule for rule in RULES if rule.name == "evidence-missing")
    assert missing.check(BATCH_MODEL, facts) == ["slipway:models.nightly: models:/breast-cancer/7: it has no evidence"]
    assert PINNED.check(BATCH_MODEL, facts) == [
        "slipway:models.nightly: models:/breast-cancer/7: models:/breast-cancer@champion can move"
    ]
    assert not REPLICAS.check(BATCH_MODEL, facts), "it has no replicas"
