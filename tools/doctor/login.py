"""Whether this shell signs in at a registry that asks for it: the token is looked at here, and not verified."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from infra.registry.client import TOKEN
from tools.doctor.check import Finding, bad, good

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.config.addons import IssuerConfig

SUBJECT = "registry login"


def login(issuers: Sequence[IssuerConfig], token: str | None, now: datetime) -> Finding:
    """What the gateway would say of the token. Nothing of it is told but what it is about."""
    if not issuers:
        return good(SUBJECT, "none is asked for")
    known = ", ".join(each.issuer for each in issuers)
    if not token:
        return bad(SUBJECT, f"{TOKEN} is not set", f"the gateway asks for a token of {known}", "set it")
    claims = _claims(token)
    if claims is None:
        return bad(SUBJECT, f"{TOKEN} is no JSON Web Token", f"one of {known}", "ask the issuer for one")
    audiences = claims.get("aud") or []
    said = {audiences} if isinstance(audiences, str) else set(audiences)
    for each in issuers:
        subjects = any(_is(str(claims.get("sub")), subject) for subject in each.subjects)
        if claims.get("iss") == each.issuer and said & set(each.audiences) and subjects:
            return _in_time(claims, now)
    found = f"{claims.get('sub')} by {claims.get('iss')} for {', '.join(sorted(said)) or 'nobody'}"
    return bad(SUBJECT, found, "issuer, audience and subject are of slipway:addons.mlflow.login", "ask for another one")


def _is(subject: str, pattern: str) -> bool:
    return subject.startswith(pattern.removesuffix("*")) if pattern.endswith("*") else subject == pattern


def _in_time(claims: dict[str, Any], now: datetime) -> Finding:
    expires = datetime.fromtimestamp(float(claims.get("exp", 0)), tz=UTC)
    told = f"{claims['sub']} until {expires:%Y-%m-%d %H:%M} UTC"
    return good(SUBJECT, told) if expires > now else bad(SUBJECT, told, "a token is not over", "ask for a new one")


def _claims(token: str) -> dict[str, Any] | None:
    """What a token says, whoever signed it; None for what is none."""
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 (header, claims, signature)
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
