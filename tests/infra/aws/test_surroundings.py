"""cert-manager and external-dns: what they may, and what reaches them."""

from __future__ import annotations

import json
from functools import cache

import pytest

from infra.deploy import deploy
from infra.errors import ConfigError
from tests.infra.aws.environment import platform
from tests.infra.recording import record, resolve_without_registry, stack

ZONES = {"apps.example.com": "Z1", "tools.example.com": "Z2"}
BOTH = {"certManager": {"enabled": True}, "externalDns": {"zones": ZONES}}


@cache
def deployed():
    config = stack(platform=platform(), addons=BOTH)
    return record(lambda: deploy(config, resolve_without_registry), preview=False)


def test_external_dns_changes_its_zones_and_no_other():
    allowed = json.loads(deployed().one("RolePolicy", "external-dns")["policy"])["Statement"]
    assert [(each["Action"], each["Resource"]) for each in allowed] == [
        (
            ["route53:ChangeResourceRecordSets", "route53:ListResourceRecordSets"],
            ["arn:aws:route53:::hostedzone/Z1", "arn:aws:route53:::hostedzone/Z2"],
        ),
        (["route53:ListHostedZones"], ["*"]),
    ]
    said = deployed().one("Release", "external-dns")["values"]
    assert said["domainFilters"] == sorted(ZONES)
    assert said["extraArgs"] == ["--zone-id-filter=Z1", "--zone-id-filter=Z2"]


def test_its_pods_are_the_account_that_has_the_role():
    recorded = deployed()
    said = recorded.one("Release", "external-dns")["values"]
    association = recorded.one("PodIdentityAssociation", "external-dns")
    assert said["serviceAccount"] == {"create": False, "name": association["serviceAccount"]}
    policy = recorded.one("NetworkPolicy", "external-dns-aws")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= said["podLabels"].items()
    assert association["namespace"] == recorded.one("Release", "external-dns")["namespace"] == "external-dns"


@pytest.mark.parametrize("name", ["cert-manager", "external-dns"])
def test_each_is_alone_in_a_namespace_that_is_restricted_and_denies_first(name):
    recorded = deployed()
    labels = recorded.one("Namespace", name)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert f"{name}-default-deny" in recorded.of("NetworkPolicy")
    assert recorded.one("Release", name)["namespace"] == name


def test_nothing_but_its_webhook_is_asked_of_cert_manager_and_it_has_no_role():
    recorded = deployed()
    spec = recorded.one("NetworkPolicy", "cert-manager-policy")["spec"]
    assert [rule["ports"][0]["port"] for rule in spec["ingress"]] == [10250]
    assert "cert-manager" not in recorded.of("Role")


def test_neither_is_there_unless_it_is_asked_for():
    config = stack(platform=platform())
    recorded = record(lambda: deploy(config, resolve_without_registry), preview=False)
    assert not {"cert-manager", "external-dns"} & set(recorded.of("Release"))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"addons": BOTH}, r"addons\.externalDns\.zones: set → Route 53 is AWS', and the platform is local"),
        ({"addons": {"externalDns": {"zones": {"Apps": "Z1"}}}}, "a domain in lower case"),
        ({"addons": {"externalDns": {"zones": {"a.example.com": "/hostedzone/Z1"}}}}, "the id of a Route 53 zone"),
    ],
)
def test_zones_that_could_not_be_reached_are_refused(keys, told):
    with pytest.raises(ConfigError, match=told):
        stack(**keys)
