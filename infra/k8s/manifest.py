"""Manifests as plain data, and the one step from data to resources.

Builders return what `kubectl apply` would take: camelCase keys, values that may be Outputs.
They decide; `declare` declares.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

from pulumi_kubernetes import (
    admissionregistration,
    apiextensions,
    apiregistration,
    apps,
    autoscaling,
    batch,
    core,
    networking,
    policy,
    rbac,
)

from infra import names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pulumi

Manifest: TypeAlias = dict[str, Any]
"""A Kubernetes object, or a part of one."""

ADMISSION = "admissionregistration.k8s.io/v1"

_KINDS: dict[tuple[str, str], Callable[..., pulumi.CustomResource]] = {
    ("v1", "Namespace"): core.v1.Namespace,
    ("v1", "ConfigMap"): core.v1.ConfigMap,
    ("v1", "Secret"): core.v1.Secret,
    ("v1", "Service"): core.v1.Service,
    ("v1", "ServiceAccount"): core.v1.ServiceAccount,
    ("v1", "PersistentVolumeClaim"): core.v1.PersistentVolumeClaim,
    ("apps/v1", "Deployment"): apps.v1.Deployment,
    ("apps/v1", "StatefulSet"): apps.v1.StatefulSet,
    ("autoscaling/v2", "HorizontalPodAutoscaler"): autoscaling.v2.HorizontalPodAutoscaler,
    ("batch/v1", "Job"): batch.v1.Job,
    ("networking.k8s.io/v1", "NetworkPolicy"): networking.v1.NetworkPolicy,
    (ADMISSION, "MutatingWebhookConfiguration"): admissionregistration.v1.MutatingWebhookConfiguration,
    (ADMISSION, "ValidatingWebhookConfiguration"): admissionregistration.v1.ValidatingWebhookConfiguration,
    ("apiregistration.k8s.io/v1", "APIService"): apiregistration.v1.APIService,
    ("rbac.authorization.k8s.io/v1", "Role"): rbac.v1.Role,
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): rbac.v1.RoleBinding,
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): rbac.v1.ClusterRole,
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): rbac.v1.ClusterRoleBinding,
    ("policy/v1", "PodDisruptionBudget"): policy.v1.PodDisruptionBudget,
}


def declare(resource: str, manifest: Manifest, opts: pulumi.ResourceOptions) -> pulumi.CustomResource:
    """Declares a manifest as the resource called `resource` in Pulumi's state.

    Kinds that Kubernetes does not ship become `CustomResource`s.
    """
    api_version, kind = manifest["apiVersion"], manifest["kind"]
    fields = {_snake(key): value for key, value in manifest.items() if key not in {"apiVersion", "kind"}}
    known = _KINDS.get((api_version, kind))
    if known is not None:
        return known(resource, opts=opts, **fields)
    return apiextensions.CustomResource(resource, api_version=api_version, kind=kind, opts=opts, **fields)


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
    described: pulumi.Output[Any] = getattr(resource, "metadata")  # noqa: B009 (not declared on the base class)
    return described.apply(lambda meta: str(meta["name"]))


def _snake(key: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", lambda upper: f"_{upper.group(1).lower()}", key)
