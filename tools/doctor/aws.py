"""What an environment on AWS needs of its account, asked by the `aws` command, which Pulumi signs in by, too."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from infra.platforms.aws.cluster import ADDON_VERSIONS
from tools.doctor.check import Finding, bad, good, unknown
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from infra.config.aws import AwsPlatformConfig

Aws: TypeAlias = "Callable[[Sequence[str]], Any]"
"""Runs `aws <arguments>` and returns what it prints as JSON; raises `StepError`."""

OLDEST_CLI = 2


class Quota(NamedTuple):
    """A quota of EC2, in vCPUs that may run at once."""

    code: str
    described: str


QUOTAS = {
    ("g", False): Quota("L-DB2E81BA", "On-Demand G and VT"),
    ("p", False): Quota("L-417A185B", "On-Demand P"),
    ("g", True): Quota("L-3819A6DF", "Spot G and VT"),
    ("p", True): Quota("L-7212CCBC", "Spot P"),
    ("standard", False): Quota("L-1216C47A", "On-Demand Standard"),
    ("standard", True): Quota("L-34B43A08", "Spot Standard"),
}
"""By the family's first letter and whether it is spot. Codes: Service Quotas console, Amazon EC2."""


def asked(arguments: Sequence[str]) -> Any:
    """The real `aws`."""
    try:
        done = subprocess.run(["aws", *arguments, "--output", "json"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise StepError("not on PATH") from None
    if done.returncode != 0:
        raise StepError(" ".join(done.stderr.split()) or f"exit code {done.returncode}")
    return json.loads(done.stdout or "null")


def findings(config: AwsPlatformConfig, aws: Aws = asked) -> Iterator[Finding]:
    """All checks. Without credentials the others are told as not checked."""
    signed_in = credentials(config, aws)
    yield signed_in
    for subject, check in (
        ("kubernetes version", kubernetes),
        ("EKS add-ons", addons),
        ("certificate", certificate),
        ("quotas", quotas),
    ):
        if signed_in.state != "good":
            yield unknown(subject, "no credentials of the account", "mend those and run `slipway doctor` again")
            continue
        try:
            yield from check(config, lambda arguments: aws([*arguments, "--region", config.region]))
        except StepError as error:
            yield unknown(subject, str(error), "let the role read it, or ask the console")


def credentials(config: AwsPlatformConfig, aws: Aws) -> Finding:
    """Whose they are."""
    try:
        found = aws(["sts", "get-caller-identity"])
    except StepError as error:
        return bad("credentials", str(error), "Pulumi and its kubeconfig sign in by `aws`", "`aws sso login`")
    if found["Account"] != config.account:
        return bad("credentials", found["Arn"], f"of account {config.account}", "set AWS_PROFILE to one of it")
    if found["Arn"].rpartition(":")[2] == "root":
        return bad("credentials", found["Arn"], "nobody works as root", "sign in as a role")
    return good("credentials", found["Arn"])


def kubernetes(config: AwsPlatformConfig, aws: Aws) -> Iterator[Finding]:
    """Whether EKS still supports the version."""
    wanted = config.cluster.version
    found = aws(["eks", "describe-cluster-versions", "--cluster-versions", wanted])["clusterVersions"]
    status = found[0]["versionStatus"] if found else "unknown to EKS"
    if status == "STANDARD_SUPPORT":
        yield good("kubernetes version", wanted)
    else:
        rule = "standard support; the other costs six times as much"
        yield bad("kubernetes version", f"{wanted}: {status}", rule, "raise slipway:platform.cluster.version")


def addons(config: AwsPlatformConfig, aws: Aws) -> Iterator[Finding]:
    """Whether EKS has the add-ons' versions."""
    for name, wanted in ADDON_VERSIONS[config.cluster.version].items():
        found = aws(["eks", "describe-addon-versions", "--kubernetes-version", config.cluster.version,
                     "--addon-name", name])  # fmt: skip
        known = [each["addonVersion"] for addon in found["addons"] for each in addon["addonVersions"]]
        if wanted in known:
            yield good(f"add-on {name}", wanted)
        else:
            latest = known[0] if known else "none"
            yield bad(f"add-on {name}", wanted, f"EKS has {latest}", "correct infra/platforms/aws/cluster.py")


def certificate(config: AwsPlatformConfig, aws: Aws) -> Iterator[Finding]:
    """Whether the gateway can show it."""
    arn, host = config.gateway.certificate, config.gateway.host
    found = aws(["acm", "describe-certificate", "--certificate-arn", arn])["Certificate"]
    names = found.get("SubjectAlternativeNames") or [found["DomainName"]]
    if found["Status"] != "ISSUED":
        yield bad("certificate", found["Status"], "issued", "finish its validation in ACM")
    elif not any(_covers(name, host) for name in names):
        yield bad("certificate", ", ".join(names), f"for {host}", "correct slipway:platform.gateway")
    else:
        yield good("certificate", f"{host}, until {found.get('NotAfter')}")


def _covers(name: str, host: str) -> bool:
    pattern = re.escape(name).replace(r"\*", "[^.]+")
    return re.fullmatch(pattern, host, re.IGNORECASE) is not None


def quotas(config: AwsPlatformConfig, aws: Aws) -> Iterator[Finding]:
    """VCPUs that all pools take at their largest, beside what the account may run."""
    system, models = config.cluster.system_nodes, config.cluster.model_nodes
    pools = [(system.instance_types, system.count, False)]
    pools += [(tuple(each.type for each in pool.chosen), pool.max, pool.spot) for pool in config.gpu_pools.values()]
    types = sorted({each for names, _, _ in pools for each in names})
    described = aws(["ec2", "describe-instance-types", "--instance-types", *types])["InstanceTypes"]
    cpus = {each["InstanceType"]: int(each["VCpuInfo"]["DefaultVCpus"]) for each in described}
    needed = Counter[Quota]({QUOTAS["standard", models.spot]: models.max_cpus})
    for names, most, spot in pools:
        family = names[0][0] if names[0][0] in "gp" else "standard"
        needed[QUOTAS[family, spot]] += most * max(cpus[each] for each in names)
    for quota, wanted in needed.items():
        said = aws(["service-quotas", "get-service-quota", "--service-code", "ec2", "--quota-code", quota.code])
        allowed = int(said["Quota"]["Value"])
        subject = f"quota {quota.described}"
        if allowed >= wanted:
            yield good(subject, f"{allowed} vCPUs, {wanted} needed at most")
        else:
            raising = (
                "`aws service-quotas request-service-quota-increase --service-code ec2 "
                f"--quota-code {quota.code} --desired-value {wanted}`"
            )
            yield bad(subject, f"{allowed} vCPUs", f"{wanted} with every pool at its largest", raising)
