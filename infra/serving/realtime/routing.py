"""Which release answers a request. Pure data, no resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra import names
from infra.k8s import mesh
from infra.serving.realtime.release import host
from services.contract import HTTP_PORT, VERSION_HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pulumi

    from infra.config.models import RealtimeModelConfig
    from infra.k8s.manifest import Manifest

NOT_FOUND = 404


def routes(model: str, config: RealtimeModelConfig) -> list[Manifest]:
    """Routes of a model, in the order the gateway tries them.

    1. The header names a release: that one answers, whatever its weight.
    2. The header names anything else: 404, for an answer of another release would be taken for that one's.
    3. No header: by weight, and a copy to the shadow. A release of weight 0 is left out.
    """
    path = mesh.below(names.model_path(model))
    by_header = [
        mesh.rewriting_route(
            f"release-{release}",
            {**path, "headers": {VERSION_HEADER: {"exact": release}}},
            [mesh.destination(host(model, release), HTTP_PORT)],
        )
        for release in sorted(config.releases)
    ]
    unknown = mesh.answering_route(
        "release-unknown",
        {**path, "headers": {VERSION_HEADER: {"regex": ".+"}}},
        NOT_FOUND,
        f'{{"error":"{model} has no such release","remedy":"drop the header {VERSION_HEADER} or name one of: '
        f'{", ".join(sorted(config.releases))}"}}',
    )
    by_weight = destinations(model, config.traffic, sticky=config.sticky is not None)
    weighted = mesh.rewriting_route(weighted_route(model), path, by_weight, mirror=_mirror(model, config))
    return [*by_header, unknown, weighted]


def weighted_route(model: str) -> str:
    """Name of the route by weight, by which the gateway's other objects refer to it."""
    return f"traffic-{model}"


def destinations(model: str, traffic: Mapping[str, int], *, sticky: bool) -> list[Manifest]:
    """Releases by weight, where requests without a header go."""
    weights = [(release, weight) for release, weight in sorted(traffic.items()) if weight > 0]
    if sticky and len(weights) == 1:
        # The gateway makes a choice of what has two destinations only, and the sticky route must find one to change.
        ((release, weight),) = weights
        weights = [(release, weight - 1), (release, 1)]
    return [mesh.destination(host(model, release), HTTP_PORT, weight) for release, weight in weights]


def _mirror(model: str, config: RealtimeModelConfig) -> Manifest | None:
    if config.shadow is None:
        return None
    percent = 100.0 if config.mirror is None else config.mirror.percent
    return mesh.mirror(host(model, config.shadow), HTTP_PORT, percent)


def virtual_service(
    model: str,
    namespace: pulumi.Input[str],
    gateway: pulumi.Input[str],
    routes: list[Manifest],
    labels: Mapping[str, str],
) -> Manifest:
    """The route object of a model."""
    return mesh.virtual_service(names.route(model), namespace, gateway, routes, labels)
