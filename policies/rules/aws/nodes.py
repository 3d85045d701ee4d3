"""Nodes: who reaches their metadata, and who runs on those with GPUs."""

from __future__ import annotations

from policies.rules.rule import Properties, Rule
from policies.rules.workloads import GPU

LAUNCH_TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
NODE_CLASS = "kubernetes:karpenter.k8s.aws/v1:EC2NodeClass"
NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"
NODE_POOL = "kubernetes:karpenter.sh/v1:NodePool"

ACCELERATOR = "slipway.dev/accelerator"
"""Label of nodes with GPUs, by which releases find theirs."""


def _metadata(resource_type: str, properties: Properties) -> list[str]:
    if resource_type == NODE_CLASS:
        properties = properties.get("spec") or {}
    elif resource_type != LAUNCH_TEMPLATE:
        return []
    options = properties.get("metadataOptions") or {}
    found = (
        [] if options.get("httpTokens") == "required" else ["the metadata service answers without a session (IMDSv1)"]
    )
    hops = options.get("httpPutResponseHopLimit")
    return (
        found if hops == 1 else [*found, f"its answers survive {hops or 'two'} hops: pods get the node's credentials"]
    )


def _gpu_pool(resource_type: str, properties: Properties) -> list[str]:
    if resource_type == NODE_GROUP:
        labels = properties.get("labels") or {}
        has_gpus = ACCELERATOR in labels or str(properties.get("amiType")).endswith("_NVIDIA")
        taints = properties.get("taints") or []
        bounded = True  # a node group always has a largest size
    elif resource_type == NODE_POOL:
        spec = properties.get("spec") or {}
        template = spec.get("template") or {}
        labels = (template.get("metadata") or {}).get("labels") or {}
        has_gpus = ACCELERATOR in labels
        taints = (template.get("spec") or {}).get("taints") or []
        bounded = GPU in (spec.get("limits") or {})
    else:
        return []
    if not has_gpus:
        return []
    found = [] if ACCELERATOR in labels else [f"its nodes have no label {ACCELERATOR}"]
    found += [] if any(each.get("key") == GPU for each in taints) else [f"its nodes have no taint {GPU}"]
    return found if bounded else [*found, f"it may make any number of nodes: no limit of {GPU}"]


IMDSV2 = Rule(
    name="aws-imdsv2",
    description="A node's metadata service wants a session and answers the node alone: a pod is never the node.",
    remedy="set httpTokens to required and httpPutResponseHopLimit to 1",
    check=_metadata,
)

GPU_POOL = Rule(
    name="aws-gpu-pool",
    description="Nodes with GPUs say which, keep everything else away, and there is a most of them.",
    remedy=f"label them {ACCELERATOR}, taint them {GPU}, and bound the pool",
    check=_gpu_pool,
)
