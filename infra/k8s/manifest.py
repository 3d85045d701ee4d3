"""Manifests as plain data, and the one step from data to resources.

Builders return what `kubectl apply` would take: camelCase keys, values that may be Outputs.
They decide; `declare` declares.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeAlias

import pulumi

from infra import names

if TYPE_CHECKING:
    from collections.abc import Mapping

Manifest: TypeAlias = dict[str, Any]
"""A Kubernetes object, or a part of one."""

SECRET_FIELDS = ("data", "stringData")
"""Of a Secret: encrypted in the state, whatever they are made of."""


@cache
def provider_version() -> str:
    """Of the Kubernetes provider, as its SDK is installed; kept, for every resource asks and each answer takes 2 ms."""
    return version("pulumi-kubernetes")


class ProviderResource(pulumi.CustomResource):
    """Anything that the Kubernetes provider makes, from plain data.

    The SDK's classes say the same by type and key; importing them takes longer than all else that the program does.
    """

    def __init__(self, token: str, name: str, fields: Manifest, opts: pulumi.ResourceOptions) -> None:
        pinned = pulumi.ResourceOptions(version=provider_version())
        super().__init__(f"kubernetes:{token}", name, fields, pulumi.ResourceOptions.merge(opts, pinned))


def declare(resource: str, manifest: Manifest, opts: pulumi.ResourceOptions) -> pulumi.CustomResource:
    """Declares a manifest as the resource called `resource` in Pulumi's state."""
    api_version, kind = manifest["apiVersion"], manifest["kind"]
    group = api_version if "/" in api_version else f"core/{api_version}"
    fields = manifest
    if kind == "Secret":
        fields = {
            key: pulumi.Output.secret(value) if key in SECRET_FIELDS else value for key, value in manifest.items()
        }
        opts = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=[*SECRET_FIELDS]))
    return ProviderResource(f"{group}:{kind}", resource, fields, opts)


def metadata(
    name: pulumi.Input[str],
    namespace: pulumi.Input[str] | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, pulumi.Input[str]] | None = None,
) -> Manifest:
    """Metadata of an object; every object says that it is ours."""
    fields: Manifest = {"name": name, "labels": {names.LABEL_PART_OF: "slipway", **(labels or {})}}
    if namespace is not None:
        fields["namespace"] = namespace
    if annotations:
        fields["annotations"] = dict(annotations)
    return fields


def name_of(resource: pulumi.CustomResource) -> pulumi.Output[str]:
    """An object's name as an Output that exists once the object is ready: whoever uses it waits for it."""
    described: pulumi.Output[Any] = pulumi.get(resource, "metadata")
    return described.apply(lambda meta: str(meta["name"]))
