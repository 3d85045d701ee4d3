"""Charts: what others maintain as Helm releases is installed as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.k8s.manifest import Manifest, ProviderResource

if TYPE_CHECKING:
    import pulumi

INSTALL_SECONDS = 300
"""Time for what a chart declares to become ready, image start included."""


def release(  # noqa: PLR0913 (what a release of Helm's is)
    resource: str,
    chart: str,
    namespace: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
    *,
    name: str | None = None,
    values: Manifest | None = None,
    repository: str | None = None,
    version: str | None = None,
) -> pulumi.CustomResource:
    """Installs a chart under a name, which is the resource's unless said.

    The chart is a directory, an `oci://` address, or the name of one in a repository; the last two have a version.
    """
    fields: Manifest = {
        "name": name or resource,
        "chart": chart,
        "namespace": namespace,
        "timeout": INSTALL_SECONDS,
        # A first install that failed leaves nothing behind for the second to trip over.
        "atomic": True,
        # As the SDK says it: the provider's own form of a release, whose state shows what would change.
        "compat": "true",
    }
    if values is not None:
        fields["values"] = values
    if version is not None:
        fields["version"] = version
    if repository is not None:
        fields["repositoryOpts"] = {"repo": repository}
    return ProviderResource("helm.sh/v3:Release", resource, fields, opts)
