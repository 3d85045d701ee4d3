"""Streams as the program declares them: topics, brokers, workers, and what is refused before anything is."""

from __future__ import annotations

import json
import re

import pytest

from infra.config.workload import PROGRAMS_ENV
from infra.deploy import deploy
from infra.errors import ConfigError
from infra.serving.streaming.topics import PartitionsProvider
from services.contract import HTTP_PORT, STREAM_MODULE, Env
from services.inference.stream_settings import StreamSettings
from tests.infra.recording import DIGEST, GENERATED, record, resolve_without_registry, stack

PREVIEW = pytest.mark.parametrize("preview", [False, True], ids=["update", "preview"])
KAFKA = {"kind": "local", "kafka": {"enabled": True}}
TOPICS = {"cards": {"partitions": 6}, "scores": {"partitions": 6}, "cards-dead": {"partitions": 1}}
KEDA = {"keda": {"enabled": True}}


def stream(**keys):
    return {
        "kind": "stream",
        "model": "models:/fraud/7",
        "input": "cards",
        "output": "scores",
        "deadLetter": "cards-dead",
        **keys,
    }


def config(*, platform=KAFKA, topics=TOPICS, addons=None, **model):
    return stack(platform=platform, topics=topics, addons=addons or {}, models={"fraud": stream(**model)})


def deployed(*, preview=False, **keys):
    found = config(**keys)
    return record(lambda: deploy(found, resolve_without_registry), preview=preview)


def refused(**keys):
    with pytest.raises(ConfigError) as raised:
        config(**keys)
    return "\n".join(raised.value.problems)


def container_of(recorded):
    [container] = recorded.one("Deployment", "fraud")["spec"]["template"]["spec"]["containers"]
    return container


@PREVIEW
def test_a_stream_is_a_broker_topics_and_workers(preview):
    recorded = deployed(preview=preview)
    for kind, name in (
        ("StatefulSet", "kafka"),
        ("Job", "topics"),
        ("Deployment", "fraud"),
        ("ServiceAccount", "fraud"),
        ("NetworkPolicy", "fraud"),
        ("PodDisruptionBudget", "fraud"),
        ("StreamModel", "fraud"),
    ):
        assert name in recorded.of(kind), f"no {kind} {name}"


def test_a_stack_without_streams_has_no_broker():
    recorded = record(lambda: deploy(stack(), resolve_without_registry), preview=False)
    assert not [resource for resource in recorded.resources if "kafka" in resource.name or "topics" in resource.name]


def test_the_worker_accepts_the_environment_that_is_rendered_for_it(monkeypatch, tmp_path):
    for variable in Env:
        monkeypatch.delenv(variable, raising=False)
    rendered = {each["name"]: each["value"] for each in container_of(deployed(shadow="models:/fraud/8"))["env"]}
    properties = tmp_path / "client.properties"
    properties.write_text(deployed().one("Secret", "fraud-kafka")["stringData"]["client.properties"])
    for name, value in rendered.items():
        monkeypatch.setenv(name, str(properties) if name == Env.KAFKA_PROPERTIES else value)
    settings = StreamSettings()
    assert settings.model_uri == "models:/fraud/7"
    assert settings.model_digest == settings.shadow_digest == DIGEST
    assert settings.shadow_uri == "models:/fraud/8"
    assert (settings.input, settings.output, settings.dead_letter) == ("cards", "scores", "cards-dead")
    assert settings.group == "fraud", "the model's name, unless said"
    assert settings.commit_ms == 100
    assert settings.http_port == HTTP_PORT, "probes expect it there"
    assert settings.client()["sasl.password"] == GENERATED
    own = {name for name in rendered if name.startswith("SLIPWAY_")} - {Env.KAFKA_PROPERTIES}
    assert own <= PROGRAMS_ENV, "no model's own variable may take the place of one of these"


def test_the_worker_runs_the_stream_module_from_a_read_only_root():
    container = container_of(deployed())
    assert container["command"] == ["python", "-m", STREAM_MODULE]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert {environment[Env.CACHE_DIR], environment["HOME"], "/kafka"} <= mounts
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_no_password_is_outside_a_secret():
    for resource in deployed(addons=KEDA, scaling={"min": 1, "max": 4}).resources:
        if resource.kind not in {"Secret", "RandomSecret"}:
            assert GENERATED not in json.dumps(resource.inputs, default=str), f"{resource.kind} {resource.name}"


def test_only_clients_reach_the_broker():
    recorded = deployed()
    [rule] = recorded.one("NetworkPolicy", "kafka-policy")["spec"]["ingress"]
    peers = [peer.get("podSelector", {}).get("matchLabels") for peer in rule["from"]]
    assert {"slipway.dev/kafka-client": "true"} in peers
    labels = recorded.one("Deployment", "fraud")["spec"]["template"]["metadata"]["labels"]
    assert labels["slipway.dev/kafka-client"] == "true"


def test_the_broker_knows_its_users_and_lets_nobody_else_in():
    properties = deployed().one("Secret", "kafka-server")["stringData"]["server.properties"]
    assert f'user_admin="{GENERATED}"' in properties
    assert f'user_keda="{GENERATED}"' in properties
    assert "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer" in properties
    listeners = re.search(r"^listeners=(.*)$", properties, re.MULTILINE)[1].split(",")
    assert [each for each in listeners if "127.0.0.1" not in each] == ["CLIENTS://:9092"], "the rest is the node's own"
    assert "CLIENTS:SASL_PLAINTEXT" in properties


def test_topics_are_what_the_stack_says():
    listed = json.loads(deployed().one("ConfigMap", "topics")["data"]["topics.json"])
    week = {"retention.ms": str(168 * 3_600_000)}
    assert listed["cards"] == {"partitions": 6, "replication": 1, "config": week}


def users_of(recorded):
    """Users by name, as the Job is told, with rights as (kind, name, operation); a name's beginning ends in `*`."""
    listed = json.loads(recorded.one("Secret", "kafka-users")["stringData"]["users.json"])
    return {
        user: {
            (each["kind"], each["name"] + {"LITERAL": "", "PREFIXED": "*"}[each["pattern"]], operation)
            for each in told["rights"]
            for operation in each["operations"]
        }
        for user, told in listed.items()
    }


def test_each_stream_is_a_user_of_its_own_with_the_rights_that_it_needs():
    models = {"fraud": stream(), "audit": stream(input="scores", output="audited", group="auditors")}
    topics = {**TOPICS, "audited": {"partitions": 1}}
    found = stack(platform=KAFKA, topics=topics, models=models)
    recorded = record(lambda: deploy(found, resolve_without_registry), preview=False)
    users = users_of(recorded)
    assert set(users) == {"keda", "workload-fraud", "workload-audit"}
    reads = {(kind, name) for kind, name, operation in users["workload-audit"] if operation == "READ"}
    writes = {(kind, name) for kind, name, operation in users["workload-audit"] if operation == "WRITE"}
    assert reads == {("TOPIC", "scores"), ("GROUP", "auditors")}
    assert writes == {("TOPIC", "audited"), ("TOPIC", "cards-dead"), ("TRANSACTIONAL_ID", "auditors-*")}
    assert {operation for _, _, operation in users["keda"]} == {"DESCRIBE"}
    secrets = {
        name: recorded.one("Deployment", name)["spec"]["template"]["spec"]["volumes"] for name in ("fraud", "audit")
    }
    for name, volumes in secrets.items():
        assert {"name": "kafka", "secret": {"secretName": f"{name}-kafka"}} in volumes
        assert (
            f"sasl.username=workload-{name}\n"
            in recorded.one("Secret", f"{name}-kafka")["stringData"]["client.properties"]
        )


def test_no_stream_is_a_user_of_the_platforms():
    models = {name: stream() for name in ("admin", "keda")}
    found = stack(platform=KAFKA, topics=TOPICS, models=models)
    recorded = record(lambda: deploy(found, resolve_without_registry), preview=False)
    properties = recorded.one("Secret", "kafka-server")["stringData"]["server.properties"]
    [supers] = re.findall(r"^super.users=(.*)$", properties, re.MULTILINE)
    assert "User:admin" in supers.split(";")
    assert set(users_of(recorded)) == {"keda", "workload-admin", "workload-keda"}
    assert recorded.one("Secret", "kafka-admin")["metadata"]["name"] == "kafka-admin"
    assert recorded.one("Secret", "admin-kafka")["metadata"]["name"] == "admin-kafka"


def test_other_topics_or_other_rights_are_another_job():
    def job(**keys):
        return deployed(**keys).one("Job", "topics")

    assert job() == job(), "nothing changes where nothing is edited"
    assert job(topics={**TOPICS, "cards": {"partitions": 8}}) != job()
    assert job(group="others") != job()
    assert job(batchRows=64) == job()


def test_workers_scale_by_the_lag_of_their_group_as_far_as_there_are_partitions():
    recorded = deployed(addons=KEDA, scaling={"min": 1, "max": 6, "lag": 500})
    spec = recorded.one("CustomResource" if "CustomResource" in recorded.of("x") else "ScaledObject", "fraud")["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 6)
    [trigger] = spec["triggers"]
    assert trigger["type"] == "kafka"
    assert trigger["metadata"]["consumerGroup"] == "fraud"
    assert trigger["metadata"]["lagThreshold"] == "500"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"platform": {"kind": "local"}}, "set slipway:platform.kafka.enabled"),
        ({"input": "elsewhere"}, 'models.fraud.input: "elsewhere" → a topic of the stack'),
        ({"output": "cards"}, 'models.fraud.output: "cards" → a stream that reads what it writes never ends'),
        (
            {"scaling": {"min": 1, "max": 3}},
            "models.fraud.scaling.max: 3 → workers follow their lag by the keda add-on",
        ),
        ({"scaling": {"min": 1, "max": 9}, "addons": KEDA}, "no more than cards has partitions, 6"),
        ({"scaling": {"min": 7}}, "models.fraud.scaling.min: 7 → no more than cards has partitions, 6"),
        ({"scaling": {"min": 0}}, "models.fraud.scaling.min: 0 → nobody would answer → set `max` above it, or 1"),
        ({"scaling": {"min": 3, "max": 2}}, "models.fraud.scaling.max: 2 → at least scaling.min, 3"),
        ({"scaling": {"lag": 10}}, "models.fraud.scaling.lag: 10 → is how workers follow the load"),
        ({"topics": {**TOPICS, "cards": {"partitions": 6, "replication": 3}}}, "topics.cards.replication: 3"),
        ({"topics": {**TOPICS, "car ds": {"partitions": 6}}}, "a name of Kafka's"),
        ({"topics": {**TOPICS, "cards": {"partitions": 6, "config": {"retention.ms": "1"}}}}, "set retentionHours"),
        ({"env": {"SLIPWAY_KAFKA_PROPERTIES": "/x"}}, "is the platform's"),
        ({"env": {"SLIPWAY_STREAM_GROUP": "x"}}, "the program sets this variable itself"),
    ],
)
def test_what_would_not_do_what_it_says_is_refused_with_its_key(keys, said):
    assert said in refused(**keys)


def test_two_streams_of_one_group_are_refused():
    both = {"fraud": stream(), "other": stream(group="fraud")}
    with pytest.raises(ConfigError, match="fraud has it, and they would share the messages"):
        stack(platform=KAFKA, topics=TOPICS, models=both)


def test_fewer_partitions_are_refused_by_the_preview():
    provider = PartitionsProvider()
    olds, news = {"partitions": {"cards": 6, "gone": 3}}, {"partitions": {"cards": 4}}
    with pytest.raises(ValueError, match=r"slipway:topics.cards.partitions: 4 → 6 there are"):
        provider.diff("topics", olds, news)
    assert provider.diff("topics", olds, {"partitions": {"cards": 8}}).changes
    kept = provider.update("topics", olds, {"partitions": {"cards": 8}}).outs["partitions"]
    assert kept == {"cards": 8, "gone": 3}, "a topic that left the stack file is still there"
    with pytest.raises(ValueError, match="gone"):
        provider.diff("topics", {"partitions": kept}, {"partitions": {"cards": 8, "gone": 1}})
