"""How the registry is asked: over HTTP, signed in where the shell has a token."""

from __future__ import annotations

import os

import httpx

TOKEN = "MLFLOW_TRACKING_TOKEN"  # noqa: S105 (the variable's name)
"""Variable with a bearer token, from which MLflow's own clients take it, too. It is whoever runs the program, and no
part of a stack: nothing declared depends on it."""

ANSWER_SECONDS = 10.0
"""Longest wait for one answer of the registry."""


def headers() -> dict[str, str]:
    """Of each request to the registry, and to nothing else."""
    token = os.environ.get(TOKEN)
    return {"Authorization": f"Bearer {token}"} if token else {}


def refusal(response: httpx.Response) -> str | None:
    """Rule and remedy where it is the gateway that answered, to somebody whom it does not know."""
    if response.status_code not in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return None
    return (
        f"{response.request.url.copy_with(query=None)} answered {response.status_code} → its gateway lets in whom "
        f"slipway:addons.mlflow.login names → put a token of such an issuer into {TOKEN}"
    )


def connect(url: str) -> httpx.Client:
    """A client of the registry at `url`. Where that redirects to another host, the token stays here."""
    return httpx.Client(base_url=url, headers=headers(), timeout=ANSWER_SECONDS, follow_redirects=True)
