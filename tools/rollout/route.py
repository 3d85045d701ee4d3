"""A model's route in the cluster: who gets how much, and how to change that ahead of Pulumi.

`pulumi up` reads the program, asks the registry and looks at every resource before it moves traffic. Going back does
not wait for that: the route is applied first, under the name that Pulumi's provider applies it with, as the manifest
that the program will make of the same traffic. The update that follows finds it done and records it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from infra.serving.realtime import routing
from services.contract import VERSION_HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping

PROVIDER = "pulumi-kubernetes"
"""What the names begin with under which Pulumi's provider applies objects."""


def weighted(traffic: Mapping[str, int]) -> dict[str, int]:
    """Without releases that get nothing, by name."""
    return {release: weight for release, weight in sorted(traffic.items()) if weight}


def weights_of(route: Mapping[str, Any], model: str) -> dict[str, int]:
    """Releases and their weights, of the last route of a VirtualService, the one without a header."""
    found: dict[str, int] = {}
    for entry in route["spec"]["http"][-1]["route"]:
        release = entry["destination"]["host"].partition(".")[0].removeprefix(f"{model}-")
        found[release] = found.get(release, 0) + int(entry.get("weight", 100))
    return weighted(found)


def releases_of(route: Mapping[str, Any]) -> set[str]:
    """Releases that the route knows by header: those that are deployed."""
    headers = [entry["match"][0].get("headers", {}).get(VERSION_HEADER, {}) for entry in route["spec"]["http"]]
    return {header["exact"] for header in headers if "exact" in header}


def manager_of(route: Mapping[str, Any]) -> str | None:
    """The field manager that Pulumi's provider applies the route as; None where it has not."""
    for entry in route["metadata"].get("managedFields", ()):
        if entry["operation"] == "Apply" and entry["manager"].startswith(PROVIDER):
            return str(entry["manager"])
    return None


def shifted(route: Mapping[str, Any], model: str, traffic: Mapping[str, int], *, sticky: bool) -> dict[str, Any]:
    """The route as Pulumi's provider would apply it for that traffic."""
    spec = copy.deepcopy(route["spec"])
    spec["http"][-1]["route"] = routing.destinations(model, traffic, sticky=sticky)
    known = ("name", "namespace", "labels", "annotations")
    metadata = {key: value for key, value in route["metadata"].items() if key in known}
    return {"apiVersion": route["apiVersion"], "kind": route["kind"], "metadata": metadata, "spec": spec}
