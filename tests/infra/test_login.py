"""Who is let through to MLflow: what is declared, and what its clients send. At a real gateway: tests/e2e."""

from __future__ import annotations

import httpx
import pytest

from infra import names
from infra.certificate import issue
from infra.deploy import deploy
from infra.errors import ConfigError, RegistryError
from infra.registry.client import TOKEN, connect
from infra.registry.mlflow import MlflowRegistry
from tests.infra.recording import realtime, record, resolve_without_registry, stack
from tests.tokens import AUDIENCE, ISSUER, URL

OTHER = {
    "issuer": "https://login.example.com/",
    "audiences": ["registry"],
    "subjects": ["*"],
    "jwksUri": "https://login.example.com/keys",
}
AUTHORITY = issue(["login.example.com"])["ca"]
OPEN = {"kind": "reference", "stack": "acme/slipway/platform", "url": "https://models.example.com", "internal": False}


def declared(*issuers, preview=False, **keys):
    config = stack(addons={"mlflow": {"login": [*issuers]}}, **keys)
    return record(lambda: deploy(config, resolve_without_registry), preview=preview)


@pytest.mark.parametrize("preview", [False, True], ids=["update", "preview"])
def test_nobody_is_let_in_whom_no_issuer_of_the_stack_vouches_for(preview):
    recorded = declared(ISSUER, OTHER, preview=preview)
    gateway = recorded.one("Gateway", "slipway")["spec"]["selector"]
    verified = recorded.one("RequestAuthentication", "mlflow-login")["spec"]
    assert verified["selector"]["matchLabels"] == gateway
    assert verified["jwtRules"] == [
        {"issuer": URL, "audiences": [AUDIENCE], "jwks": ISSUER["jwks"]},
        {"issuer": OTHER["issuer"], "audiences": ["registry"], "jwksUri": OTHER["jwksUri"]},
    ]
    refused = recorded.one("AuthorizationPolicy", "mlflow-login")["spec"]
    assert (refused["action"], refused["selector"]["matchLabels"]) == ("DENY", gateway)
    nobody, *others = refused["rules"]
    assert nobody["from"] == [{"source": {"notRequestPrincipals": ["*"]}}]
    assert [[condition.get("values", condition.get("notValues")) for condition in rule["when"]] for rule in others] == [
        [[URL], ["repo:acme/models:*"]],
        [[OTHER["issuer"]], ["*"]],
    ]
    paths = [rule["to"] for rule in refused["rules"]]
    assert paths == [[{"operation": {"paths": ["/mlflow", "/mlflow/*"]}}]] * 3, "and no path of a model"


def test_tokens_are_looked_at_on_every_route_of_mlflow_and_on_no_other():
    recorded = declared(ISSUER, OTHER, models={"fraud": realtime()})
    manifest = recorded.one("EnvoyFilter", "mlflow-login")
    assert manifest["metadata"]["namespace"] == names.INGRESS_NAMESPACE
    filter_patch, host_patch, *route_patches = manifest["spec"]["configPatches"]
    (disabled,) = host_patch["patch"]["value"]["typed_per_filter_config"].values()
    assert disabled["disabled"] is True
    patched = [each["match"]["routeConfiguration"]["vhost"]["route"]["name"] for each in route_patches]
    assert patched == [each["name"] for each in recorded.one("VirtualService", "mlflow")["spec"]["http"]], (
        "on one that is left out nobody has an identity, and everybody is refused"
    )
    (requirement,) = filter_patch["patch"]["value"]["typed_config"]["requirement_map"].values()
    providers = [each.get("provider_name") for each in requirement["requires_any"]["requirements"]]
    assert providers == ["origins-0", "origins-1", None], "each issuer, or no token at all"


def test_no_route_leads_to_mlflow_before_what_asks_for_tokens_is_there():
    recorded = declared(ISSUER)
    guards = {f"{kind} mlflow-login" for kind in ("RequestAuthentication", "AuthorizationPolicy", "EnvoyFilter")}
    assert guards <= recorded.dependencies["VirtualService mlflow"]


def test_an_authority_of_ones_own_vouches_for_an_issuers_keys_beside_the_public_ones():
    def values(**login):
        return declared(ISSUER, OTHER | login).one("Release", "istiod")["values"]

    public, own, another = values(), values(authority=AUTHORITY), values(authority=issue(["other.example.com"])["ca"])
    assert "jwksResolverExtraRootCA" not in public
    assert own["jwksResolverExtraRootCA"] == AUTHORITY
    assert own["podAnnotations"] != another["podAnnotations"], "istiod reads them when it starts"


def test_without_issuers_nothing_asks_for_a_token():
    recorded = declared()
    assert not recorded.of("RequestAuthentication") | recorded.of("EnvoyFilter")


def test_a_registry_that_asks_who_somebody_is_may_be_reached_by_others():
    config = stack(platform=OPEN, addons={"mlflow": {"login": [ISSUER]}}, models={"fraud": realtime()})
    assert config.registry.url is None
    with pytest.raises(ConfigError, match=r"say in addons\.mlflow\.login who signs in"):
        stack(platform=OPEN, models={"fraud": realtime()})


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"jwksUri": "https://issuer.example.com/keys"}, "an issuer's keys come from one place → set jwksUri or jwks"),
        ({"jwks": None}, "an issuer's keys come from one place"),
        ({"jwks": None, "jwksUri": "http://issuer.example.com/keys"}, "an https address at its usual port"),
        ({"authority": AUTHORITY}, "an authority vouches for an address → set jwksUri, or leave authority out"),
        ({"jwks": None, "jwksUri": OTHER["jwksUri"], "authority": "/etc/ca.pem"}, "certificates in PEM"),
        ({"subjects": []}, r"login\S*subjects"),
        ({"subjects": ["*:acme"]}, "a subject of a token, or how it begins"),
        ({"audiences": []}, r"login\S*audiences"),
    ],
)
def test_an_issuer_that_would_let_others_in_or_nobody_is_refused(changed, told):
    said = {key: value for key, value in {**ISSUER, **changed}.items() if value is not None}
    with pytest.raises(ConfigError, match=told):
        stack(addons={"mlflow": {"login": [said]}})


def test_the_registrys_client_sends_the_shells_token_there_and_nowhere_else(monkeypatch):
    monkeypatch.setenv(TOKEN, "secret")
    sent = []

    def answer(request):
        sent.append((request.url.host, request.headers.get("Authorization")))
        moved = request.url.host == "registry.example.com"
        return httpx.Response(302 if moved else 200, headers={"location": "https://elsewhere.example.com/"})

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _, request: answer(request))
    with connect("https://registry.example.com/mlflow") as client:
        client.get("/api")
    assert sent == [("registry.example.com", "Bearer secret"), ("elsewhere.example.com", None)]
    monkeypatch.delenv(TOKEN)
    with connect("https://elsewhere.example.com") as client:
        client.get("/api")
    assert sent[-1] == ("elsewhere.example.com", None)


@pytest.mark.parametrize("status", [401, 403])
def test_whom_the_gateway_refuses_is_told_what_to_send(status):
    answering = httpx.MockTransport(lambda _: httpx.Response(status, text="RBAC: access denied"))
    told = rf"/model-versions/get answered {status} → .*addons\.mlflow\.login.* into {TOKEN}"
    with (
        httpx.Client(base_url="https://m.example.com/mlflow", transport=answering) as client,
        pytest.raises(RegistryError, match=told),
    ):
        MlflowRegistry(client).version("fraud", "1")
