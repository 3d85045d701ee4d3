"""Signing in at Amazon MSK: the pod's own identity makes a token, without a call to AWS and without a password."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

TokenCallback: TypeAlias = Callable[[str], tuple[str, float]]
"""What librdkafka calls when it needs a token: the token, and when it ends, in seconds since the epoch."""


def client(region: str) -> Mapping[str, Any]:
    """What every client of the brokers is told."""
    return {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", "oauth_cb": tokens(region)}


def tokens(region: str) -> TokenCallback:
    """Makes a token whenever librdkafka asks, which it does well before the last one ends."""

    def token(_: str) -> tuple[str, float]:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # noqa: PLC0415  # botocore takes half a second

        made, ends_ms = MSKAuthTokenProvider.generate_auth_token(region)
        return made, ends_ms / 1e3

    return token
