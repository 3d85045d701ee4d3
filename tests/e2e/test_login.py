"""Tokens at the gateway: MLflow asks for one, models for none, whatever somebody sends."""

from __future__ import annotations

import json

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from infra import names
from tests.e2e import issuer
from tests.e2e.callers import until
from tests.tokens import AUDIENCE, ISSUER, keys, token

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(1800)]

OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)

IMAGE = "--output=jsonpath={.spec.template.spec.containers[0].image}"


@pytest.fixture(scope="module")
def fetched(site):
    """An issuer in the cluster, as the stack file says it."""
    image = site.kubectl("--namespace", names.PLATFORM_NAMESPACE, "get", f"deployment/{names.MLFLOW}", IMAGE)
    authority, objects = issuer.issuing(image, keys(OTHER))
    site.kubectl("apply", "--filename=-", stdin=json.dumps(objects))
    site.kubectl("--namespace", issuer.NAME, "wait", "--for=condition=Ready", f"pod/{issuer.NAME}", "--timeout=60s")
    yield {
        "issuer": issuer.URL,
        "audiences": [AUDIENCE],
        "subjects": ["*"],
        "jwksUri": f"{issuer.URL}/keys",
        "authority": authority,
    }
    site.kubectl("delete", "namespace", issuer.NAME, "--wait=false")


@pytest.fixture(scope="module")
def guarded(site, fetched):
    """The site with a login for MLflow, which goes again."""
    original = site.stack_file.read_text()
    site.edit(lambda config: config.setdefault("slipway:addons", {}).update(mlflow={"login": [ISSUER, fetched]}))
    try:
        site.pulumi("up", "--yes", "--skip-preview")
        until(lambda: status(site, site.mlflow) == 403)
        yield site
    finally:
        site.stack_file.write_text(original)
        site.slipway("pulumi", "up", "--yes", "--skip-preview", "--stack", "local", token=token())
    until(lambda: status(site, site.mlflow) == 200)


def status(site, base, sent=None):
    headers = {"Authorization": f"Bearer {sent}"} if sent else {}
    return httpx.get(f"{base}/health", headers=headers).status_code


WRONG = {
    "none": (None, 403),
    "no token": ("abc", 401),
    "another key": (token(OTHER), 401),
    "another key than was fetched": (token(iss=issuer.URL), 401),
    "another issuer": (token(iss="https://other.example.com"), 401),
    "another audience": (token(aud="sts.amazonaws.com"), 403),
    "another subject": (token(sub="repo:somebody/else:ref:refs/heads/main"), 403),
    "expired": (token(exp=1), 401),
}


@pytest.mark.parametrize(("sent", "answered"), WRONG.values(), ids=WRONG)
def test_what_is_no_token_for_the_registry_is_refused_there_and_not_looked_at_by_models(guarded, sent, answered):
    assert status(guarded, guarded.mlflow, sent) == answered
    assert status(guarded, guarded.endpoint, sent) == 200


def test_who_has_one_is_let_in(guarded):
    assert status(guarded, guarded.mlflow, token()) == 200
    assert status(guarded, guarded.mlflow, token(OTHER, iss=issuer.URL)) == 200, "by keys that istiod fetched"


def test_commands_previews_and_mlflows_own_client_send_it(guarded):
    refused = guarded.pulumi("preview", check=False)
    assert refused.returncode != 0
    assert "put a token of such an issuer into MLFLOW_TRACKING_TOKEN" in refused.stdout + refused.stderr
    sent = token()
    shown = guarded.slipway("pulumi", "preview", "--expect-no-changes", "--stack", "local", token=sent)
    assert sent not in shown.stdout + shown.stderr
    listed = guarded.slipway("models", "list", "--tracking-uri", guarded.mlflow, "-o", "json", token=sent)
    assert [version["name"] for version in json.loads(listed.stdout)] == ["breast-cancer"]
    asked = guarded.slipway("predict", "breast-cancer", "-o", "json", token=sent)
    assert json.loads(asked.stdout)["model_version"] == "1"
    state = guarded.pulumi("stack", "export", "--show-secrets").stdout
    assert sent not in state, "a token is whoever runs a command, and no part of what it declares"
