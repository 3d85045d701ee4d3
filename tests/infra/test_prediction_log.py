"""The prediction log of a realtime model: where it goes, and what its pods get for it."""

from __future__ import annotations

import json

import pytest

from infra.deploy import deploy
from infra.errors import ConfigError
from services.contract import Env
from services.inference.adapters.telemetry.sinks import KafkaSink, S3Sink, sink
from services.inference.settings import Settings
from tests.infra.recording import realtime, record, resolve_without_registry, stack

TO_S3 = {"path": "predictions/log/fraud", "share": 0.25, "redact": ["name", "email"]}
TO_KAFKA = {"topic": "lines"}
KAFKA = {"platform": {"kind": "local", "kafka": {"enabled": True}}, "topics": {"lines": {"partitions": 1}}}


def declared(log, *, preview=False, **keys):
    config = stack(models={"fraud": realtime(predictionLog=log)}, **keys)
    return record(lambda: deploy(config, resolve_without_registry), preview=preview)


def pod(recorded):
    return recorded.one("Deployment", "fraud-v1")["spec"]["template"]


def variables(recorded):
    (container,) = pod(recorded)["spec"]["containers"]
    return {each["name"]: each.get("value") for each in container["env"]}


@pytest.mark.parametrize("preview", [False, True], ids=["update", "preview"])
def test_a_log_on_s3_has_the_stores_address_and_the_users_secret(preview):
    recorded = declared(TO_S3, preview=preview)
    found = variables(recorded)
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= set(found)
    assert found[Env.PREDICTION_LOG_SHARE] == "0.25"
    if not preview:
        assert found[Env.PREDICTION_LOG] == "s3://slipway-predictions/log/fraud"
        assert found[Env.S3_ENDPOINT_URL] == "http://object-store.slipway-platform.svc.cluster.local:7070"


def test_what_the_program_says_of_a_log_the_service_understands():
    said = {name: value for name, value in variables(declared(TO_S3)).items() if value is not None}
    settings = Settings.model_validate(said)
    assert settings.prediction_log_redact == {"name", "email"}
    assert isinstance(sink(str(settings.prediction_log), s3_endpoint_url=settings.s3_endpoint_url), S3Sink)
    told = variables(declared(TO_KAFKA, **KAFKA))[Env.PREDICTION_LOG]
    assert told == "kafka://kafka.slipway-platform.svc.cluster.local:9092/lines"
    assert isinstance(sink(told), KafkaSink)


def test_a_log_in_kafka_has_the_clients_properties_and_the_right_to_its_topic():
    recorded = declared(TO_KAFKA, **KAFKA)
    template = pod(recorded)
    (container,) = template["spec"]["containers"]
    assert {"name": "kafka", "mountPath": "/kafka"} in container["volumeMounts"]
    assert template["metadata"]["labels"]["slipway.dev/kafka-client"] == "true"
    listed = json.loads(recorded.one("Secret", "kafka-users")["stringData"]["users.json"])
    [right] = listed["workload-fraud-v1"]["rights"]
    assert (right["kind"], right["name"], right["operations"][0]) == ("TOPIC", "lines", "WRITE")


def test_without_a_log_a_release_has_nothing_of_it():
    found = variables(declared(None))
    assert not {name for name in found if name.startswith(("SLIPWAY_PREDICTION", "AWS_"))}


def test_kserves_pods_get_it_too():
    config = stack(
        addons={"kserve": {"enabled": True}},
        models={"fraud": realtime(predictionLog=TO_S3, runtime="kserve")},
    )
    recorded = record(lambda: deploy(config, resolve_without_registry), preview=False)
    predictor = recorded.one("InferenceService", "fraud-v1")["spec"]["predictor"]
    assert predictor["labels"]["slipway.dev/object-store-client"] == "true"
    assert "AWS_SECRET_ACCESS_KEY" in {each["name"] for each in predictor["model"]["env"]}


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ({}, "a log goes to one place → set path or topic, and not both"),
        ({**TO_S3, **TO_KAFKA}, "a log goes to one place"),
        ({"path": "features/log"}, "below the bucket of predictions, in one place → write predictions/<path>"),
        ({"path": "predictions/log/date={date}"}, "below the bucket of predictions, in one place"),
        ({**TO_S3, "redact": ["a,b"]}, "names without commas"),
        (TO_KAFKA, r"fraud\.predictionLog\.topic: .*lines.* → a topic of the stack \(none\) → declare it"),
    ],
)
def test_a_log_that_would_go_nowhere_is_refused(log, told):
    with pytest.raises(ConfigError, match=told):
        stack(models={"fraud": realtime(predictionLog=log)})


def test_the_variables_that_stand_for_it_are_the_programs():
    release = {"v1": {"model": "models:/fraud/1", "env": {Env.PREDICTION_LOG: "file:///tmp/x"}}}
    with pytest.raises(ConfigError, match="the program sets this variable itself"):
        stack(models={"fraud": realtime(releases=release)})
