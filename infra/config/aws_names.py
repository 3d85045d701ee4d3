"""Names that AWS gives, and how they are spelt."""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from infra.config.base import broken_rule

MIN_PREFIX, MAX_PREFIX = 16, 20
"""Of the VPC: AWS takes no larger one, and a smaller one holds no cluster of three zones."""


def _vpc_range(text: str) -> str:
    try:
        network = IPv4Network(text)
    except ValueError:
        raise broken_rule("a range of private addresses, host bits zero", "write 10.40.0.0/16") from None
    if not network.is_private or not MIN_PREFIX <= network.prefixlen <= MAX_PREFIX:
        raise broken_rule(f"private, of /{MIN_PREFIX} to /{MAX_PREFIX}", "write 10.40.0.0/16")
    return text


def _range(text: str) -> str:
    try:
        network = IPv4Network(text)
    except ValueError:
        raise broken_rule("a range of addresses, host bits zero", "write 203.0.113.0/24") from None
    if network.prefixlen == 0:
        raise broken_rule("not the whole internet", "name the networks that people work from")
    return text


def _spelled(pattern: str, rule: str, remedy: str) -> AfterValidator:
    """Holds a text to a pattern, as a whole."""
    wanted = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if not wanted.fullmatch(text):
            raise broken_rule(rule, remedy)
        return text

    return AfterValidator(check)


_NAME = _spelled(
    "[a-z]([a-z0-9-]*[a-z0-9])?", "a lower-case name that starts with a letter", "use a-z, 0-9 and hyphens"
)

VpcRange = Annotated[str, AfterValidator(_vpc_range)]
Range = Annotated[str, AfterValidator(_range)]
Account = Annotated[str, _spelled("[0-9]{12}", "the twelve digits of an account", 'write "123456789012", in quotes')]
Region = Annotated[str, _spelled("[a-z]{2}(-[a-z]+)+-[0-9]", "an AWS region", "write eu-central-1")]
Zone = Annotated[str, _spelled("[a-z]{2}(-[a-z]+)+-[0-9][a-z]", "an availability zone", "write eu-central-1a")]
PrincipalArn = Annotated[
    str,
    _spelled(
        r"arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[\w+=,.@/-]+",
        "the ARN of an IAM role or user",
        "write arn:aws:iam::<account>:role/<name>",
    ),
]
PolicyArn = Annotated[
    str,
    _spelled(
        r"arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[\w+=,.@/-]+",
        "the ARN of an IAM policy",
        "write arn:aws:iam::<account>:policy/<name>",
    ),
]
CertificateArn = Annotated[
    str,
    _spelled(
        "arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/.+",
        "the ARN of a certificate of ACM",
        "write arn:aws:acm:<region>:<account>:certificate/<id>",
    ),
]
HostName = Annotated[
    str,
    _spelled(
        "([a-z0-9]([a-z0-9-]*[a-z0-9])?[.])+[a-z0-9]([a-z0-9-]*[a-z0-9])?", "a name in DNS", "write models.example.com"
    ),
]
ZoneId = Annotated[str, _spelled("Z[A-Z0-9]+", "the id of a Route 53 zone", "write Z0123456789")]
EnvironmentName = Annotated[str, _NAME, StringConstraints(max_length=20)]
"""At most 20 characters: it begins the names of buckets, which are 63 long and end with the account."""
PoolName = Annotated[str, _NAME, StringConstraints(max_length=20)]
InstanceFamily = Annotated[str, _spelled("[a-z0-9-]+", "a family of EC2 instance types", "write m7i")]
InstanceType = Annotated[str, _spelled("[a-z0-9-]+[.][a-z0-9-]+", "an EC2 instance type", "write m7i.xlarge")]
BrokerType = Annotated[
    str, _spelled("(kafka|express)[.][a-z0-9]+[.][a-z0-9]+", "a broker type of MSK", "write kafka.m7g.large")
]
DatabaseClass = Annotated[
    str, _spelled("db[.][a-z0-9]+[.][a-z0-9]+", "an instance class of RDS", "write db.t4g.medium")
]
ReservationId = Annotated[str, _spelled("cr-[0-9a-f]{8,17}", "a capacity reservation", "write cr-0123456789abcdef0")]
TagKey = Annotated[
    str,
    _spelled(
        r"(?!aws:)[\w .:/=+@-]{1,128}", "the key of a tag, which aws: does not begin", "write team or cost:center"
    ),
]
TagValue = Annotated[str, _spelled(r"[\w .:/=+@-]{0,256}", "the value of a tag", "use letters, digits and .:/=+@-_")]
