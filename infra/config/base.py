"""The base of every config class, and how its rules fail."""

from __future__ import annotations

import json
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

PROJECT = "slipway"
"""Namespace of our keys in `Pulumi.<stack>.yaml`."""

RULE_ERROR = "slipway_rule"
"""Type of the errors that our own rules raise; their context carries `rule` and `remedy`."""


def decoded(text: str) -> Any:
    """A value from its JSON. The engine knows no whole numbers: a 3.0 was a 3."""
    return json.loads(text, parse_float=_number)


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number


class ConfigModel(BaseModel):
    """Plain validated values: frozen, unknown keys refused, camelCase in YAML, snake_case in code."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )


class Refused(NamedTuple):
    """A key below a model, what stands there, the rule that it breaks together with others, and the remedy."""

    key: str
    value: Any
    rule: str
    remedy: str


def broken_rule(rule: str, remedy: str) -> PydanticCustomError:
    """An error that `infra.config.errors` renders as `key: value → rule → remedy`."""
    return PydanticCustomError(RULE_ERROR, "{rule} → {remedy}", {"rule": rule, "remedy": remedy})


_QUANTITY = r"^[1-9][0-9]*(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
_IMAGE = r"^[a-z0-9][a-z0-9.\-_/:]*@sha256:[0-9a-f]{64}$"
_URL = r"^https?://[^\s/@]+(/[^\s]*)?$"
_HTTPS = r"^https://[^\s/@:]+(/[^\s]*)?$"
_AUDIENCE = r"^[^\s]+$"
_SUBJECT = r"^([^\s*]+\*?|\*)$"
_DOMAIN = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$"
_DNS_LABEL = r"^[a-z]([a-z0-9-]*[a-z0-9])?$"
_ALPHANUMERIC = r"^[a-z0-9]+$"
_HEADER = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_CERTIFICATES = r"^(-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+\n-----END CERTIFICATE-----\n*)+$"
_PUBLIC_KEY = r"^ed25519:[A-Za-z0-9+/]{43}=$"

TOPIC_PATTERN = r"^[A-Za-z0-9._-]+$"
"""A Kafka topic or consumer group."""

STACK_PATTERN = r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$"
"""A stack of Pulumi's, in full."""

_TABLE = r"^[A-Za-z0-9._=*?{}\[\]-]+(/[A-Za-z0-9._=*?{}\[\]-]+)*$"

PATTERNS = {
    _QUANTITY: ("a Kubernetes quantity", 'write cores as "250m" or "2", bytes as "512Mi" or "1Gi"'),
    _IMAGE: ("an image by digest, a tag can move", "run `slipway images build`, or write <repository>@sha256:<digest>"),
    _URL: ("an HTTP address without credentials", "write http://<host>[:<port>][/<path>]"),
    _HTTPS: ("an https address at its usual port", "write https://<host>[/<path>]"),
    _DOMAIN: ("a domain in lower case", "write it without a final dot"),
    _AUDIENCE: ("an audience of tokens, without spaces", "write the claim `aud` to the letter"),
    _SUBJECT: ("a subject of a token, or how it begins", "write it in full, or its beginning and a *"),
    _DNS_LABEL: ("a lower-case DNS label that starts with a letter", "use a-z, 0-9 and inner hyphens"),
    _ALPHANUMERIC: ("lower-case letters and digits", "drop everything else, hyphens too"),
    _HEADER: ("the name of a header in lower case", "use a-z, 0-9 and inner hyphens"),
    _VARIABLE: ("the name of an environment variable", "use letters, digits and underscores"),
    _TABLE: (
        "a path below one of the platform's buckets",
        "write features/<path> or predictions/<path>, of letters, digits and ._=*?{}[]-",
    ),
    TOPIC_PATTERN: ("a name of Kafka's", "use letters, digits, dots, hyphens and underscores"),
    STACK_PATTERN: ("a stack in full", "write <organization>/<project>/<stack>, as `pulumi stack ls` shows it"),
    _CERTIFICATES: ("certificates in PEM", "write a block (`|`), each from its BEGIN to its END"),
    _PUBLIC_KEY: ("an Ed25519 public key", "write ed25519:<base64>, as `slipway models signer` prints it"),
}
"""What each pattern of the configuration means: rule and remedy, for errors."""

Quantity = Annotated[str, StringConstraints(pattern=_QUANTITY)]
"""A Kubernetes quantity: `250m` (cores), `1Gi` (bytes)."""

ImageRef = Annotated[str, StringConstraints(pattern=_IMAGE)]
"""An image by digest, never by a tag that can move."""

HttpUrl = Annotated[str, StringConstraints(pattern=_URL)]
"""An HTTP address without credentials, kept as written."""

HttpsUrl = Annotated[str, StringConstraints(pattern=_HTTPS)]
"""An address with TLS at port 443, the one that network policies let the mesh's control plane reach."""

DomainName = Annotated[str, StringConstraints(pattern=_DOMAIN, max_length=253)]
"""A domain: `models.example.com`."""

Audience = Annotated[str, StringConstraints(pattern=_AUDIENCE)]
"""Whom a token is for: the registry's own name at the issuer."""

Subject = Annotated[str, StringConstraints(pattern=_SUBJECT)]
"""Whom a token is about, or how that begins: `repo:acme/models:*`."""

ModelName = Annotated[str, StringConstraints(pattern=_DNS_LABEL, max_length=40)]
"""At most 40 characters: `<model>-<release>` names a Service, which may have 63."""

ReleaseName = Annotated[str, StringConstraints(pattern=_ALPHANUMERIC, max_length=20)]
"""Without hyphens, so that `<model>-<release>` splits one way only."""

EnvName = Annotated[str, StringConstraints(pattern=_VARIABLE, max_length=128)]
"""Name of an environment variable."""

HeaderName = Annotated[str, StringConstraints(pattern=_HEADER, max_length=64)]
"""Name of a request header, in the lower case that the mesh compares."""

Certificates = Annotated[str, StringConstraints(pattern=_CERTIFICATES)]
"""One or several certificates in PEM, and nothing else."""

PublicKey = Annotated[str, StringConstraints(pattern=_PUBLIC_KEY)]
"""An Ed25519 public key: `ed25519:` and its 32 bytes in base64."""

TablePath = Annotated[str, StringConstraints(pattern=_TABLE)]
"""A table below one of the platform's buckets: `features/patients/date={date}`."""
