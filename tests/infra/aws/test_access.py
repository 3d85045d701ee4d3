"""What workloads may on AWS: what they said that they need, by its exact name, and nothing else."""

from __future__ import annotations

import json
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pulumi
import pytest
from cryptography import x509
from psycopg2 import sql

from infra.access import Needs, Place
from infra.config.platform import ReferencePlatformConfig
from infra.deploy import deploy
from infra.errors import ConfigError
from infra.platforms.aws import access, database_user
from infra.platforms.aws.facts import Facts
from infra.platforms.aws.iam import LONGEST_NAME, shortened
from infra.platforms.aws.reference import agreeing
from infra.serving.batch import job
from tests.infra.aws.environment import platform
from tests.infra.recording import batch, realtime, record, resolve_without_registry, stack

KAFKA = "arn:aws:kafka:eu-central-1:123456789012"
TOPICS = {name: {"partitions": 3, "replication": 3} for name in ("cards", "scores", "dead", "lines")}
STREAM = {
    "kind": "stream", "model": "models:/fraud/7", "input": "cards", "output": "scores", "deadLetter": "dead",
    "scaling": {"max": 3},
}  # fmt: skip


@cache
def deployed():
    config = stack(
        platform=platform(),
        addons={"keda": {"enabled": True}},
        topics=TOPICS,
        models={
            "classifier": realtime(),
            "logged": realtime(predictionLog={"path": "predictions/log/logged"}),
            "told": realtime(predictionLog={"topic": "lines"}),
            "nightly": batch(),
            "fraud": STREAM,
        },
    )
    return record(lambda: deploy(config, resolve_without_registry), preview=False)


def allowed(role):
    """Action → resources."""
    found = {}
    for statement in json.loads(deployed().one("RolePolicy", role)["policy"])["Statement"]:
        for action in statement["Action"]:
            found.setdefault(action, []).extend(statement["Resource"])
    return found


def test_a_stream_reads_its_input_as_its_group_and_writes_its_two_topics():
    may = allowed("fraud")
    assert may["kafka-cluster:ReadData"] == [f"{KAFKA}:topic/slipway-prod/0123-4/cards"]
    assert may["kafka-cluster:WriteData"] == [
        f"{KAFKA}:topic/slipway-prod/0123-4/scores",
        f"{KAFKA}:topic/slipway-prod/0123-4/dead",
    ]
    assert may["kafka-cluster:AlterGroup"] == [f"{KAFKA}:group/slipway-prod/0123-4/fraud"]
    assert may["kafka-cluster:AlterTransactionalId"] == [f"{KAFKA}:transactional-id/slipway-prod/0123-4/fraud-*"]


def test_a_batch_model_reads_below_its_input_and_writes_below_its_output():
    may = allowed("nightly")
    assert may["s3:PutObject"] == ["arn:aws:s3:::slipway-prod-predictions-123456789012/patients/date=*"]
    assert may["s3:GetObject"] == [
        "arn:aws:s3:::slipway-prod-predictions-123456789012/patients/date=*",
        "arn:aws:s3:::slipway-prod-features-123456789012/patients/date=*",
    ]
    assert "kafka-cluster:Connect" not in may


def test_a_release_that_logs_to_s3_puts_objects_below_its_prefix_and_sees_none():
    may = allowed("logged-v1")
    assert set(may) == {"s3:PutObject", "kms:GenerateDataKey"}
    assert may["s3:PutObject"] == ["arn:aws:s3:::slipway-prod-predictions-123456789012/log/logged/*"]
    assert [arn.split(":key/")[0] for arn in may["kms:GenerateDataKey"]] == ["arn:aws:kms:eu-central-1:123456789012"]


def test_a_release_that_logs_to_kafka_writes_its_topic_and_no_other():
    topic = f"{KAFKA}:topic/slipway-prod/0123-4/lines"
    may = allowed("told-v1")
    assert may["kafka-cluster:WriteData"] == [topic]
    assert not {"kafka-cluster:ReadData", "kafka-cluster:AlterGroup", "kafka-cluster:AlterTransactionalId"} & set(may)


@pytest.mark.parametrize(("release", "ports"), [("logged-v1", [80, 443]), ("told-v1", [80, 9098])])
def test_its_pods_reach_what_the_log_is_for_and_are_selected_as_before(release, ports):
    recorded = deployed()
    policy = recorded.one("NetworkPolicy", f"{release}-aws")["spec"]
    assert [rule["ports"][0]["port"] for rule in policy["egress"]] == ports
    spec = recorded.one("Deployment", release)["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert not policy["podSelector"]["matchLabels"].items() & spec["selector"]["matchLabels"].items(), (
        "a Deployment's selector cannot change: a log is switched on without another release"
    )


def test_topics_are_made_by_who_may_not_read_them_and_measured_by_who_may_do_neither():
    assert "kafka-cluster:ReadData" not in allowed("topics")
    assert set(allowed("keda")) == {
        "kafka-cluster:Connect",
        "kafka-cluster:DescribeCluster",
        "kafka-cluster:DescribeTopic",
        "kafka-cluster:DescribeGroup",
    }


def test_a_workload_that_needs_nothing_of_aws_is_nobody_there():
    assert "classifier-v1" in deployed().of("ServiceAccount")
    assert "classifier-v1" not in deployed().of("Role"), "its model comes from MLflow"


def test_each_role_is_of_one_service_account_whose_pods_reach_what_it_is_for():
    recorded = deployed()
    accounts = {
        (each.inputs["metadata"]["namespace"], each.name) for each in recorded.of("ServiceAccount").values()
    }  # fmt: skip
    for name, each in recorded.of("PodIdentityAssociation").items():
        assert each.inputs["roleArn"].endswith(f"role/slipway-prod-{name}")
        if name != "karpenter":  # a chart's
            assert (each.inputs["namespace"], each.inputs["serviceAccount"]) in accounts
    policy = recorded.one("NetworkPolicy", "fraud-aws")["spec"]
    labels = recorded.one("Deployment", "fraud")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert [rule["ports"][0]["port"] for rule in policy["egress"]] == [80, 9098]


@pytest.mark.parametrize(
    ("table", "prefix"),
    [
        ("features/patients", "patients/"),
        ("features/patients/date={date}", "patients/date="),
        ("features/patients/*.parquet", "patients/"),
        ("features/patients/part-*/date={date}", "patients/"),
        ("features/a/x.parquet", "a/"),
        ("features/*.parquet", ""),
        ("features/x.parquet", ""),
    ],
)
def test_the_prefix_of_a_table_is_the_longest_that_its_listing_asks_below(table, prefix):
    config = stack(models={"nightly": batch(input=table)}).models["nightly"]
    assert job.needs(config).reads == [Place("features", prefix)]


def test_a_long_name_stays_unique():
    first, second = (shortened(f"slipway-{'x' * 60}-{end}") for end in "ab")
    assert len(first) == len(second) == LONGEST_NAME
    assert first != second


FACTS = {
    **dict.fromkeys(
        ("platform_namespace", "models_namespace", "cluster", "kubeconfig", "data_cidrs", "tags", "offers")
    ),
    "prefix": "p",
    "account": "1",
    "region": "eu-central-1",
    "kafka": {"arn": f"{KAFKA}:cluster/p/1"},
    "buckets": {"models": "m", "features": "f"},
    "bucket_key": "k",
    "database": {"id": "db-1"},
}


def said_of(facts, needs):
    def program():
        return access.statements(Facts.read(pulumi.Output.from_input(facts)), needs)

    return record(program, preview=False).outputs


def test_needs_of_several_kinds_are_all_met():
    needs = Needs(reads=[Place("features", "a/")], writes=[Place("models", "b/")], produces=["t"], database=True)
    assert {action.partition(":")[0] for each in said_of(FACTS, needs) for action in each["Action"]} == {
        "s3",
        "kms",
        "kafka-cluster",
        "rds-db",
    }


def test_a_fact_that_the_other_stack_does_not_export_is_missed_at_once():
    lacking = {name: value for name, value in FACTS.items() if name != "bucket_key"}
    with pytest.raises(KeyError, match="bucket_key"):
        said_of(lacking, Needs(reads=[Place("features", "a/")]))


def test_a_configuration_that_says_otherwise_than_the_platform_fails_with_what_is_there():
    config = ReferencePlatformConfig.model_validate(
        {"kind": "reference", "stack": "acme/slipway/prod-platform", "url": "https://a.example.com", "brokers": 2}
    )
    # Pulumi's engine knows no whole numbers.
    there = {"offers": {"url": "https://b.example.com", "brokers": 3.0, "gpus": {}, "internal": True}}
    with pytest.raises(ConfigError) as raised:
        agreeing(config, there)
    assert raised.value.problems == [
        'slipway:platform.url: "https://a.example.com" → acme/slipway/prod-platform has "https://b.example.com" → '
        "write that",
        "slipway:platform.brokers: 2 → acme/slipway/prod-platform has 3 → write that",
    ]


def test_rds_authorities_are_the_regions_own_and_outlive_the_year():
    content = (Path(__file__).parents[3] / "images/mlflow/rds.pem").read_bytes()
    found = x509.load_pem_x509_certificates(content)
    assert len({each.subject for each in found}) == len(found) >= 25
    for each in found:
        each.verify_directly_issued_by(each)
        assert each.not_valid_after_utc.year >= 2060
        assert "Amazon RDS" in each.subject.rfc4514_string()


def quoted(part):
    """A part of a statement, as PostgreSQL quotes it; the library's own way asks a connection."""
    return f'"{part.string}"' if isinstance(part, sql.Identifier) else part.string


class Cursor:
    def __init__(self, *, known):
        self.known, self.said = known, []

    def execute(self, statement, arguments=()):
        parts = [statement] if isinstance(statement, str) else statement.seq
        self.said.append("".join(part if isinstance(part, str) else quoted(part) for part in parts))

    def fetchone(self):
        return (1,) if self.known else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@pytest.mark.parametrize("known", [False, True], ids=["new", "there already"])
def test_mlflows_user_signs_in_by_iam_and_making_it_twice_changes_nothing(monkeypatch, known):
    spec = spec_from_file_location("make_user", database_user.SCRIPT)
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    cursor, connected = Cursor(known=known), {}

    class Connection(Cursor):
        def cursor(self):
            return cursor

        def close(self):
            return None

    class Secrets:
        def get_secret_value(self, SecretId):  # noqa: N803
            return {"SecretString": json.dumps({"username": "slipway", "password": f"of {SecretId}"})}

    monkeypatch.setattr(script.boto3, "client", lambda *_, **__: Secrets())
    monkeypatch.setattr(
        script.psycopg2, "connect", lambda dsn, **who: connected.update(dsn=dsn, **who) or Connection(known=known)
    )
    script.main("arn:secret", "eu-central-1", "host=db sslmode=verify-full", "mlflow")
    assert connected["password"] == "of arn:secret"
    created = ['CREATE USER "mlflow"'] if not known else []
    assert cursor.said[1:] == [
        *created,
        'GRANT rds_iam TO "mlflow"',
        'GRANT USAGE, CREATE ON SCHEMA public TO "mlflow"',
    ]
