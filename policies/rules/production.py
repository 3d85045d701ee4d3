"""Rules that hold where people depend on a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.rules.models import releases, told
from policies.rules.rule import Rule

if TYPE_CHECKING:
    from policies.rules.models import Release
    from policies.rules.rule import Properties

ISTIO, MLFLOW = "slipway:addons:Istio", "slipway:addons:Mlflow"

FEWEST_REPLICAS = 2
"""One may fail, or be moved with its node, while the other answers."""


def _pinned(resource_type: str, model: Properties) -> list[str]:
    def find(release: Release) -> list[str]:
        unpinned = release.gate.get("production") is True and not release.facts.get("pinned")
        return [f"{release.facts.get('reference')} can move"] if unpinned else []

    return [line for each in releases(resource_type, model) for line in told(each, find)]


def _replicas(resource_type: str, model: Properties) -> list[str]:
    least = float((model.get("scaling") or {}).get("min") or 0)

    def find(release: Release) -> list[str]:
        depended_on = release.gate.get("production") is True and release.has_traffic and release.reached
        alone = depended_on and least < FEWEST_REPLICAS
        return [f"it runs {least:.0f} replica at least"] if alone else []

    return [line for each in releases(resource_type, model) for line in told(each, find)]


def _login(resource_type: str, mlflow: Properties) -> list[str]:
    if resource_type != MLFLOW or mlflow.get("production") is not True:
        return []
    reached = mlflow.get("publicUrl")
    return [f"whoever reaches {reached} may change the registry"] if reached and not mlflow.get("login") else []


def _mutual_tls(resource_type: str, istio: Properties) -> list[str]:
    plain = resource_type == ISTIO and istio.get("production") is True and istio.get("mtls") is not True
    return ["models answer whoever reaches their pods, unencrypted"] if plain else []


PINNED = Rule(
    name="production-pinned-model",
    description="In production a release names a version: an alias that moves would change what runs, unreviewed.",
    remedy="write models:/<name>/<version>",
    check=_pinned,
)

REPLICAS = Rule(
    name="production-replicas",
    description="In production whatever gets traffic has several replicas: one fails, the others answer.",
    remedy=f"set scaling.min of the model to {FEWEST_REPLICAS} or more",
    check=_replicas,
)

LOGIN = Rule(
    name="production-registry-login",
    description="In production the registry asks who somebody is: what it says a version is, releases will run.",
    remedy="say in slipway:addons.mlflow.login whose tokens are let in",
    check=_login,
)

MUTUAL_TLS = Rule(
    name="production-mutual-tls",
    description="In production models answer the gateway alone, and what it sends is encrypted up to their pods.",
    remedy="set slipway:addons.istio.mtls to strict",
    check=_mutual_tls,
)
