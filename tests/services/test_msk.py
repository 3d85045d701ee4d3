"""Signing in at MSK: the signer works offline, so the token that librdkafka gets here is a real one."""

from __future__ import annotations

import base64
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from confluent_kafka.admin import AdminClient

from services.contract import Env
from services.inference import msk
from services.inference.stream_settings import StreamSettings

REGION = "eu-central-1"

WORKER = {
    Env.MODEL_NAME: "fraud",
    Env.MODEL_URI: "models:/fraud/7",
    Env.STREAM_BROKERS: "b-1.kafka.test:9098",
    Env.STREAM_INPUT: "cards",
    Env.STREAM_OUTPUT: "scores",
    Env.STREAM_DEAD_LETTER: "dead",
    Env.STREAM_GROUP: "fraud",
    Env.KAFKA_IAM_REGION: REGION,
}


@pytest.fixture
def identity(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.usefixtures("identity")
def test_a_token_is_a_signed_request_to_the_regions_brokers_as_who_the_pod_is():
    token, ends = msk.tokens(REGION)("")
    signed = urlsplit(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())
    asked = parse_qs(signed.query)
    assert signed.netloc == f"kafka.{REGION}.amazonaws.com"
    assert asked["Action"] == ["kafka-cluster:Connect"]
    assert asked["X-Amz-Credential"][0].startswith("AKIAEXAMPLE/")
    assert f"/{REGION}/kafka-cluster/" in asked["X-Amz-Credential"][0]
    assert time.time() < ends <= time.time() + 900, "in seconds, and no longer than MSK takes it"


@pytest.mark.usefixtures("identity")
def test_librdkafka_takes_what_clients_are_told():
    AdminClient({**msk.client(REGION), "bootstrap.servers": "127.0.0.1:9"})


@pytest.fixture
def worker(monkeypatch):
    for name, value in WORKER.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("worker")
def test_a_worker_signs_in_by_iam_where_it_is_told_a_region():
    client = StreamSettings().client()
    assert (client["security.protocol"], client["sasl.mechanism"]) == ("SASL_SSL", "OAUTHBEARER")
    assert callable(client["oauth_cb"])


@pytest.mark.usefixtures("worker")
def test_two_ways_to_sign_in_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(Env.KAFKA_PROPERTIES, str(tmp_path))
    with pytest.raises(ValueError, match=f"{Env.KAFKA_IAM_REGION} and {Env.KAFKA_PROPERTIES}: both given"):
        StreamSettings()
