from __future__ import annotations

import pytest

from infra.config.platform import PlatformConfig
from infra.platforms.aws.cluster import ADDON_VERSIONS
from tests.infra.aws.environment import platform
from tools.doctor import aws
from tools.steps import StepError

ROLE = "arn:aws:sts::123456789012:assumed-role/deployer/me"
VCPUS = {"m7i.xlarge": 4, "m7a.xlarge": 4, "m6i.xlarge": 4, "g6.xlarge": 4, "p5.48xlarge": 192}


class Account:
    """An account that answers `aws` as the test says; what it is not told to answer is refused as AWS would."""

    def __init__(self):
        self.identity = {"Account": "123456789012", "Arn": ROLE}
        self.versions = [{"versionStatus": "STANDARD_SUPPORT"}]
        self.addons = dict(ADDON_VERSIONS["1.34"])
        self.certificate = {"Status": "ISSUED", "DomainName": "models.example.com", "NotAfter": "2027"}
        self.quotas = dict.fromkeys((quota.code for quota in aws.QUOTAS.values()), 10_000.0)
        self.refused = set()

    def __call__(self, arguments):
        service, command, *options = arguments
        if command in self.refused:
            raise StepError(f"AccessDenied: {command}")
        match command:
            case "get-caller-identity":
                return self.identity
            case "describe-cluster-versions":
                return {"clusterVersions": self.versions}
            case "describe-addon-versions":
                version = self.addons[options[options.index("--addon-name") + 1]]
                return {"addons": [{"addonVersions": [{"addonVersion": version}]}]}
            case "describe-certificate":
                return {"Certificate": self.certificate}
            case "describe-instance-types":
                types = [each for each in options if each in VCPUS]
                return {
                    "InstanceTypes": [
                        {"InstanceType": each, "VCpuInfo": {"DefaultVCpus": VCPUS[each]}} for each in types
                    ]
                }
            case "get-service-quota":
                return {"Quota": {"Value": self.quotas[options[options.index("--quota-code") + 1]]}}
        raise AssertionError(f"{service} {command}: nobody needs that")


@pytest.fixture
def account():
    return Account()


def told(account, **changes):
    from pydantic import TypeAdapter  # noqa: PLC0415

    config = TypeAdapter(PlatformConfig).validate_python(platform(**changes))
    return list(aws.findings(config, account))


def bad(account, **changes):
    return [str(each) for each in told(account, **changes) if each.state == "bad"]


def test_an_account_with_everything_has_nothing_bad_and_nothing_unknown(account):
    assert {each.state for each in told(account)} == {"good"}


def test_credentials_of_another_account_are_refused_and_nothing_else_is_asked(account):
    account.identity["Account"] = "999999999999"
    found = told(account)
    assert found[0].state == "bad"
    assert "of account 123456789012 → set AWS_PROFILE" in str(found[0])
    assert [each.state for each in found[1:]] == ["unknown"] * 4, "what was not checked is told, not left out"


def test_without_the_command_the_remedy_is_to_sign_in(account):
    account.refused = {"get-caller-identity"}
    assert "`aws sso login`" in bad(account)[0]


def test_a_version_that_eks_supports_for_extra_money_is_told(account):
    account.versions = [{"versionStatus": "EXTENDED_SUPPORT"}]
    assert bad(account) == [
        "✗ kubernetes version: 1.34: EXTENDED_SUPPORT → standard support; the other costs six times as much → "
        "raise slipway:platform.cluster.version"
    ]


def test_an_add_on_that_eks_does_not_have_is_told_with_what_it_has(account):
    account.addons["vpc-cni"] = "v9"
    assert "EKS has v9" in bad(account)[0]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"Status": "PENDING_VALIDATION"}, "PENDING_VALIDATION → issued"),
        ({"DomainName": "*.example.org"}, "*.example.org → for models.example.com"),
        ({"SubjectAlternativeNames": ["example.com", "*.com"]}, "for models.example.com"),
    ],
)
def test_a_certificate_that_callers_would_refuse_is_told(account, changes, wrong):
    account.certificate |= changes
    assert wrong in bad(account)[0]


def test_a_wildcard_certificate_covers_the_host(account):
    account.certificate["DomainName"] = "*.example.com"
    assert bad(account) == []


def test_quotas_are_held_to_every_pool_at_its_largest(account):
    account.quotas["L-DB2E81BA"] = 15.0  # four g6.xlarge have sixteen
    account.quotas["L-417A185B"] = 384.0  # two p5.48xlarge have just that
    [said] = bad(account)
    assert "quota On-Demand G and VT: 15 vCPUs → 16 with every pool at its largest" in said
    assert "--desired-value 16`" in said


def test_spot_pools_have_a_quota_of_their_own(account):
    account.quotas["L-3819A6DF"] = 0.0
    assert "Spot G and VT" in bad(account, gpuPools={"l4": {"accelerator": "nvidia-l4", "max": 1, "spot": True}})[0]


def test_what_the_role_may_not_read_is_told_as_not_checked(account):
    account.refused = {"get-service-quota"}
    unknown = [str(each) for each in told(account) if each.state == "unknown"]
    assert unknown == [
        "? quotas: AccessDenied: get-service-quota → not checked → let the role read it, or ask the console"
    ]
