"""How `slipway stream` signs in at the brokers."""

from __future__ import annotations

import pytest

from tools.cli.stream import client
from tools.kafka.reading import consumer_of
from tools.steps import StepError


def test_a_file_of_properties_is_what_the_client_is_told(tmp_path):
    file = tmp_path / "client.properties"
    file.write_text("# ours\nsasl.username = streams\n\n")
    assert client("b:9092", file, None) == {"sasl.username": "streams", "bootstrap.servers": "b:9092"}


def test_a_region_means_iam():
    told = client("b:9098", None, "eu-central-1")
    assert (told["sasl.mechanism"], told["bootstrap.servers"]) == ("OAUTHBEARER", "b:9098")


def test_both_are_one_too_many(tmp_path):
    with pytest.raises(StepError, match="--properties and --iam-region: both given"):
        client("b:9098", tmp_path, "eu-central-1")


def test_a_property_that_there_is_not_is_named():
    with pytest.raises(StepError, match=r'No such configuration property: "no.such" → librdkafka takes them'):
        consumer_of({"bootstrap.servers": "b:9092", "no.such": "1"}, "g")
