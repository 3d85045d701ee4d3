"""Tokens asked for at the gateway: Istio's objects, for some of its paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.k8s.manifest import Manifest, metadata
from infra.k8s.mesh import SECURITY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pulumi

FILTER = "envoy.filters.http.jwt_authn"
FILTER_TYPE = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3"
REQUIREMENT = "login"


@dataclass(frozen=True, kw_only=True)
class Issuer:
    """Who signs tokens."""

    issuer: str
    audiences: Sequence[str]
    subjects: Sequence[str]
    """In full, or beginnings that end in `*`."""
    keys: Mapping[str, str]
    """`jwksUri` or `jwks`."""


def request_authentication(
    name: str, namespace: pulumi.Input[str], selector: Mapping[str, str], issuers: Sequence[Issuer]
) -> Manifest:
    """A token that a request has is verified, and goes no further than the gateway; one without has no identity."""
    rules = [{"issuer": each.issuer, "audiences": [*each.audiences], **each.keys} for each in issuers]
    return {
        "apiVersion": SECURITY,
        "kind": "RequestAuthentication",
        "metadata": metadata(name, namespace),
        "spec": {"selector": {"matchLabels": dict(selector)}, "jwtRules": rules},
    }


def authorization(
    name: str,
    namespace: pulumi.Input[str],
    selector: Mapping[str, str],
    issuers: Sequence[Issuer],
    paths: Sequence[str],
) -> Manifest:
    """The paths and everything below them are refused to whoever has no verified token, or one of another subject."""
    guarded = {"to": [{"operation": {"paths": [spelt for path in paths for spelt in (path, f"{path}/*")]}}]}
    nobody = {"from": [{"source": {"notRequestPrincipals": ["*"]}}], **guarded}
    # By claims: a request's principal is cut at its last slash, and subjects have slashes of their own.
    others = [
        {
            **guarded,
            "when": [
                {"key": "request.auth.claims[iss]", "values": [each.issuer]},
                {"key": "request.auth.claims[sub]", "notValues": [*each.subjects]},
            ],
        }
        for each in issuers
    ]
    return {
        "apiVersion": SECURITY,
        "kind": "AuthorizationPolicy",
        "metadata": metadata(name, namespace),
        "spec": {"selector": {"matchLabels": dict(selector)}, "action": "DENY", "rules": [nobody, *others]},
    }


def only_on_routes(
    name: str, namespace: pulumi.Input[str], selector: Mapping[str, str], issuers: int, routes: Sequence[str]
) -> Manifest:
    """Tokens are looked at on these routes alone, by name.

    `RequestAuthentication` is for whole pods: it refuses any request with a token of somebody else's, and callers of
    models may have one for what stands before them. Without this object more is refused, never less.
    """
    any_of = [{"provider_name": f"origins-{at}"} for at in range(issuers)]  # as Istio numbers them
    requirements = {REQUIREMENT: {"requires_any": {"requirements": [*any_of, {"allow_missing": {}}]}}}
    http = {"filter": {"name": "envoy.filters.network.http_connection_manager", "subFilter": {"name": FILTER}}}
    filter_patch = {
        "applyTo": "HTTP_FILTER",
        "match": {"context": "GATEWAY", "listener": {"filterChain": http}},
        "patch": _merged(
            {"typed_config": {"@type": f"{FILTER_TYPE}.JwtAuthentication", "requirement_map": requirements}}
        ),
    }
    host_patch = {
        "applyTo": "VIRTUAL_HOST",
        "match": {"context": "GATEWAY"},
        "patch": _merged(_per_route({"disabled": True})),
    }
    route_patches = [
        {
            "applyTo": "HTTP_ROUTE",
            "match": {"context": "GATEWAY", "routeConfiguration": {"vhost": {"route": {"name": route}}}},
            "patch": _merged(_per_route({"requirement_name": REQUIREMENT})),
        }
        for route in routes
    ]
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": metadata(name, namespace),
        "spec": {
            "workloadSelector": {"labels": dict(selector)},
            "configPatches": [filter_patch, host_patch, *route_patches],
        },
    }


def _merged(value: Manifest) -> Manifest:
    return {"operation": "MERGE", "value": value}


def _per_route(config: Manifest) -> Manifest:
    return {"typed_per_filter_config": {FILTER: {"@type": f"{FILTER_TYPE}.PerRouteConfig", **config}}}
