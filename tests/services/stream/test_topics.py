"""The local platform's broker as it is configured, and the module that declares topics and users."""

import json
import os
import subprocess
import sys

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from infra.access import Needs
from infra.platforms.local import kafka, kafka_users
from services.contract import TOPICS_MODULE, Env
from services.inference.adapters.telemetry.prediction_log import SinkError
from services.inference.adapters.telemetry.sinks import KafkaSink
from services.inference.topics import EVERY_RIGHT
from tests.services.stream.conftest import Cluster, Stream
from tools.kafka.broker import Broker

pytestmark = pytest.mark.slow

PASSWORDS = {kafka.ADMIN: "a" * 48, kafka.SCALER: "b" * 48}
WEEK = {"retention.ms": "604800000"}


def properties():
    """The platform's own, on this machine's ports and folders."""
    text = kafka.server_properties(PASSWORDS, "127.0.0.1:{port}").replace(
        f"CLIENTS://:{kafka.PORT}", "CLIENTS://127.0.0.1:{port}"
    )
    text = text.replace(f"127.0.0.1:{kafka.CONTROLLER_PORT}", "127.0.0.1:{controller}")
    text = text.replace(f"127.0.0.1:{kafka.INTERNAL_PORT}", "127.0.0.1:{internal}")
    found = dict(line.split("=", 1) for line in text.splitlines())
    del found["log.dirs"]
    return found


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("secured"), properties()) as broker:
        yield broker


def login(text):
    return dict(line.split("=", 1) for line in text.splitlines())


def client(broker, user):
    return at(broker, login(kafka.client_properties(user, PASSWORDS[user], kafka.OWN_MECHANISM)))


def of_workload(account):
    """How a workload signs in."""
    return login(kafka.client_properties(kafka_users.user_name(account), password(account)))


def password(account):
    return f"of {account}".ljust(48, "c")


class Secured(Cluster):
    """Clients of one of the platform's users."""

    def __init__(self, broker, user=kafka.ADMIN):
        super().__init__(broker)
        self.client = client(broker, user)
        self.admin = AdminClient(self.client)


def declare(broker, directory, topics, clients=None):
    (directory / "topics.json").write_text(json.dumps(topics))
    rights = kafka_users.users(clients or {})
    passwords = {kafka_users.user_name(account): password(account) for account in clients or {}}
    (directory / "users.json").write_text(kafka_users.user_list(rights, passwords))
    admin = kafka.client_properties(kafka.ADMIN, PASSWORDS[kafka.ADMIN], kafka.OWN_MECHANISM)
    (directory / "admin").write_text(admin)
    command = [sys.executable, "-m", TOPICS_MODULE, broker.bootstrap, str(directory / "topics.json")]
    environment = {
        **os.environ,
        Env.KAFKA_PROPERTIES: str(directory / "admin"),
        Env.KAFKA_USERS: str(directory / "users.json"),
    }
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)


def topic(partitions, **config):
    return {"partitions": partitions, "replication": 1, "config": {**WEEK, **config}}


def test_topics_are_made_grown_and_set_and_a_second_run_changes_nothing(secured, tmp_path):
    wanted = {"grown": topic(2), "set": topic(1, **{"max.message.bytes": "2000000"})}
    for _ in range(2):
        done = declare(secured, tmp_path, wanted)
        assert done.returncode == 0, done.stderr
    wanted["grown"] = topic(4)
    assert declare(secured, tmp_path, wanted).returncode == 0
    topics = AdminClient(client(secured, kafka.ADMIN)).list_topics(timeout=10).topics
    assert (len(topics["grown"].partitions), len(topics["set"].partitions)) == (4, 1)


def test_fewer_partitions_end_the_job_with_a_reason(secured, tmp_path):
    assert declare(secured, tmp_path, {"shrunk": topic(3)}).returncode == 0
    done = declare(secured, tmp_path, {"shrunk": topic(2)})
    assert done.returncode == 1
    assert "topic shrunk: 3 partitions → Kafka takes none away → set partitions to 3" in done.stderr


def stream_needs(group, read, *write):
    return Needs(consumes=[read], produces=write, group=group)


def test_a_stream_has_the_rights_that_it_needs_and_no_others(secured, tmp_path, model, start_worker):
    cluster = Secured(secured)
    names = ["rights-in", "rights-out", "rights-dead"]
    wanted = {name: topic(2) for name in [*names, "others-in"]}
    clients = {
        "rights": stream_needs("rights", *names),
        "other": stream_needs("other", "others-in", *names[1:]),
    }
    done = declare(secured, tmp_path, wanted, clients)
    assert done.returncode == 0, done.stderr
    stream = Stream(cluster, model, start_worker, names)
    worker = stream.worker({"properties": of_workload("rights")}).ready()
    stream.send([("k", b'{"x": 1}'), ("k", b"no json")])
    assert len(stream.answers(1)) == len(stream.dead_letters(1)) == 1
    assert worker.stop() == 0
    stranger = stream.worker({"properties": of_workload("rights"), Env.STREAM_INPUT: "others-in"})
    assert stranger.wait() == 1
    assert "topic 'others-in': not there for this user" in stranger.termination_log.read_text()
    assert seen(secured, of_workload("rights")) == set(names)
    assert seen(secured, of_workload("other")) == {"others-in", *names[1:]}, "what two share both may use"
    assert seen(secured, client(secured, kafka.SCALER)) == {"rights-in", "others-in"}, "lags, and nothing else"
    assert Secured(secured, kafka.SCALER).lag("rights", "rights-in") == 0, "it may look at them"
    consumer = Consumer({**at(secured, of_workload("rights")), "group.id": "other"})
    consumer.subscribe(names[:1])
    assert consumer.poll(10).error().code() == KafkaError.GROUP_AUTHORIZATION_FAILED
    consumer.close()
    with pytest.raises(KafkaException, match="TRANSACTIONAL_ID_AUTHORIZATION_FAILED"):
        Producer({**at(secured, of_workload("rights")), "transactional.id": "other-0"}).init_transactions(10)


def test_a_stream_that_is_gone_has_neither_user_nor_rights_and_the_rest_keeps_its_own(secured, tmp_path):
    wanted = {name: topic(1) for name in ("kept-in", "kept-out", "gone-in")}
    clients = {"kept": stream_needs("kept", "kept-in", "kept-out"), "gone": stream_needs("gone", "gone-in", "kept-out")}
    assert declare(secured, tmp_path, wanted, clients).returncode == 0
    assert seen(secured, of_workload("gone")) == {"gone-in", "kept-out"}
    del clients["gone"]
    done = declare(secured, tmp_path, wanted, clients)
    assert done.returncode == 0, done.stderr
    broker = admin(secured, client(secured, kafka.ADMIN))
    users = broker.describe_user_scram_credentials().result(10)
    assert set(users) == {kafka_users.user_name("kept")}
    principals = {right.principal for right in broker.describe_acls(EVERY_RIGHT).result(10)}
    assert principals == {"User:workload-kept", f"User:{kafka.SCALER}"}
    assert seen(secured, of_workload("kept")) == {"kept-in", "kept-out"}


def seen(broker, login):
    """Topics that a user is told of."""
    return {name for name in admin(broker, login).list_topics(timeout=10).topics if not name.startswith("__")}


def admin(broker, login):
    return AdminClient(at(broker, login))


def at(broker, login):
    return {**login, "bootstrap.servers": broker.bootstrap}


def test_a_log_is_written_to_its_topic_and_to_no_other(secured, tmp_path):
    wanted = {"lines": topic(1), "not-for-lines": topic(1)}
    assert declare(secured, tmp_path, wanted, {"fraud-v1": Needs(produces=["lines"])}).returncode == 0
    told = {**at(secured, of_workload("fraud-v1")), "message.timeout.ms": "5000"}
    allowed, refused = (KafkaSink(told, name) for name in wanted)
    allowed.write("id", b"{}")
    assert allowed.close() == 1
    for _ in ("told by the broker", "known from then on"):
        with pytest.raises(SinkError, match=r"TOPIC_AUTHORIZATION_FAILED|Unknown topic"):
            refused.write("id", b"{}") or refused.close()


def test_a_wrong_password_ends_the_worker_with_a_reason(secured, stream):
    wrong = {**of_workload("nobody"), "sasl.password": "x"}
    worker = stream.worker({"properties": wrong, Env.STREAM_BROKERS: secured.bootstrap})
    assert worker.wait() == 1
    assert "correct the user, its password and the mechanism" in worker.termination_log.read_text()
