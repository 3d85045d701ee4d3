"""Which release answers a request. Pure data, no resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra import names
from infra.k8s import mesh
from services.contract import HTTP_PORT, VERSION_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pulumi

    from infra.k8s.manifest import Manifest

NOT_FOUND = 404


def host(model: str, release: str) -> str:
    """Fully qualified name of a release's Service."""
    return names.service_host(names.workload(model, release), names.MODELS_NAMESPACE)


def routes(model: str, releases: Iterable[str], traffic: Mapping[str, int]) -> list[Manifest]:
    """Routes of a model, in the order the gateway tries them.

    1. The header names a release: that one answers, whatever its weight.
    2. The header names anything else: 404, for an answer of another release would be taken for that one's.
    3. No header: by weight. A release of weight 0 is left out.
    """
    path = mesh.below(names.model_path(model))
    by_header = [
        mesh.rewriting_route(
            f"release-{release}",
            {**path, "headers": {VERSION_HEADER: {"exact": release}}},
            [mesh.destination(host(model, release), HTTP_PORT)],
        )
        for release in sorted(releases)
    ]
    unknown = mesh.answering_route(
        "release-unknown",
        {**path, "headers": {VERSION_HEADER: {"regex": ".+"}}},
        NOT_FOUND,
        f'{{"error":"{model} has no such release","remedy":"drop the header {VERSION_HEADER} or name one of: '
        f'{", ".join(sorted(releases))}"}}',
    )
    weighted = mesh.rewriting_route(
        "traffic",
        path,
        [
            mesh.destination(host(model, release), HTTP_PORT, weight)
            for release, weight in sorted(traffic.items())
            if weight > 0
        ],
    )
    return [*by_header, unknown, weighted]


def virtual_service(
    model: str,
    namespace: pulumi.Input[str],
    gateway: pulumi.Input[str],
    routes: list[Manifest],
    labels: Mapping[str, str],
) -> Manifest:
    """The route object of a model."""
    return mesh.virtual_service(names.route(model), namespace, gateway, routes, labels)
