from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from infra.config.addons import IssuerConfig
from tests.tokens import ISSUER, SUBJECT, URL, token
from tools.doctor.login import login

ISSUERS = [IssuerConfig.model_validate(ISSUER)]


def told(sent, issuers=ISSUERS):
    return login(issuers, sent, datetime.now(UTC))


def test_a_token_that_the_gateway_lets_in_is_good_and_is_not_shown():
    sent = token(aud=["another", *ISSUER["audiences"]])
    found = told(sent)
    assert (found.state, found.value.split(" until ")[0]) == ("good", SUBJECT)
    assert sent not in str(found)


def test_where_nobody_is_asked_none_is_needed():
    assert told(None, []).state == "good"


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (None, f"MLFLOW_TRACKING_TOKEN is not set → the gateway asks for a token of {URL}"),
        ("abc", "is no JSON Web Token"),
        ("a.b.c", "is no JSON Web Token"),
        (token(iss="https://other.example.com"), "by https://other.example.com for slipway-registry"),
        (token(aud="sts.amazonaws.com"), "for sts.amazonaws.com"),
        (token(sub="repo:somebody/else:x"), "repo:somebody/else:x by"),
        (token(exp=int(time.time()) - 1), "a token is not over → ask for a new one"),
    ],
)
def test_a_token_that_it_refuses_is_told_with_the_reason(sent, words):
    found = told(sent)
    assert found.state == "bad"
    assert words in str(found)
