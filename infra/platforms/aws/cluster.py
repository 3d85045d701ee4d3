"""EKS: the control plane, who may use it, its add-ons, and the nodes without GPUs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi

from infra.platforms.aws import iam, keys, nodes
from infra.platforms.aws.resource import AwsResource, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.config.aws import ClusterConfig
    from infra.platforms.aws.network import Network

LOGS = ("api", "audit", "authenticator", "controllerManager", "scheduler")
"""Everything that the control plane tells."""

ADMIN_POLICY = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"

ADDON_VERSIONS: Mapping[str, Mapping[str, str]] = {
    "1.33": {
        "vpc-cni": "v1.20.4-eksbuild.1",
        "kube-proxy": "v1.33.5-eksbuild.2",
        "coredns": "v1.12.4-eksbuild.1",
        "eks-pod-identity-agent": "v1.3.9-eksbuild.3",
        "aws-ebs-csi-driver": "v1.51.0-eksbuild.1",
        "metrics-server": "v0.8.0-eksbuild.2",
    },
    "1.34": {
        "vpc-cni": "v1.20.4-eksbuild.1",
        "kube-proxy": "v1.34.1-eksbuild.2",
        "coredns": "v1.12.4-eksbuild.1",
        "eks-pod-identity-agent": "v1.3.9-eksbuild.3",
        "aws-ebs-csi-driver": "v1.51.0-eksbuild.1",
        "metrics-server": "v0.8.0-eksbuild.2",
    },
}
"""EKS add-ons by Kubernetes version; `aws eks describe-addon-versions` tells what there is (docs/aws-unproven.md)."""

ADDON_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    # NetworkPolicies are declared everywhere; without this nobody would enforce them.
    "vpc-cni": {"enableNetworkPolicy": "true"},
}

ADDON_ROLES: Mapping[str, tuple[str, str]] = {
    "vpc-cni": ("aws-node", "AmazonEKS_CNI_Policy"),
    "aws-ebs-csi-driver": ("ebs-csi-controller-sa", "service-role/AmazonEBSCSIDriverPolicy"),
}
"""Add-ons whose pods call AWS: their account, and the policy that AWS maintains for them."""

BEFORE_NODES = ("vpc-cni", "kube-proxy", "eks-pod-identity-agent")
"""A node is not ready without these; the others are pods and need nodes."""


@dataclass(frozen=True, kw_only=True)
class ClusterArgs:
    """What the cluster is made from."""

    scope: Scope
    config: ClusterConfig
    network: Network
    log_key: AwsResource
    disk_key: AwsResource


class Cluster(pulumi.ComponentResource):
    """A private EKS cluster with its system nodes.

    1. key, log group and role, then the control plane: a log group that EKS made itself would not be encrypted
    2. who may administer it
    3. add-ons that nodes need, the nodes, and the other add-ons
    """

    name: pulumi.Output[str]
    security_group: pulumi.Output[str]
    kubeconfig: pulumi.Output[str]
    ready: Sequence[AwsResource]
    """Pods run once these are there."""

    def __init__(self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:platforms:AwsCluster", name, {}, opts)
        self._args, self._scope = args, args.scope
        self._child = pulumi.ResourceOptions(parent=self)
        self.cluster = self._control_plane()
        self.name = self.cluster.output("name")
        self.security_group = self.cluster.output("vpcConfig").apply(lambda it: str(it["clusterSecurityGroupId"]))
        admins = [self._admin(arn) for arn in args.config.admins]
        early = [self._addon(each) for each in BEFORE_NODES]
        self.node_role = nodes.node_role(self._scope, "node", self._child)
        self.system_nodes = self._system_nodes(early)
        late = [each for each in ADDON_VERSIONS[args.config.version] if each not in BEFORE_NODES]
        self.ready = [*admins, *(self._addon(each, [self.system_nodes]) for each in late)]
        self.kubeconfig = self._kubeconfig()
        self.register_outputs({"name": self.name})

    def _control_plane(self) -> AwsResource:
        scope, config, network = self._scope, self._args.config, self._args.network
        secrets = keys.key(scope, "kubernetes", "Secrets in etcd", self._child)
        path = f"/aws/eks/{scope.prefix}/cluster"
        logs = keys.log_group(scope, "kubernetes", path, config.log_days, self._args.log_key, self._child)
        role = iam.role(
            scope, "cluster", iam.trust("eks.amazonaws.com"), [], self._child, managed=["AmazonEKSClusterPolicy"]
        )
        inputs = {
            "name": scope.prefix,
            "version": config.version,
            "roleArn": role.output("arn"),
            "vpcConfig": {
                "subnetIds": list(network.private),
                "endpointPrivateAccess": True,
                "endpointPublicAccess": bool(config.public_access),
                **({"publicAccessCidrs": list(config.public_access)} if config.public_access else {}),
            },
            "accessConfig": {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": False},
            "encryptionConfig": {"provider": {"keyArn": secrets.output("arn")}, "resources": ["secrets"]},
            "enabledClusterLogTypes": list(LOGS),
            "bootstrapSelfManagedAddons": False,
            "upgradePolicy": {"supportType": "STANDARD"},
            "deletionProtection": scope.protect,
            "tags": scope.named("cluster"),
        }
        options = scope.keeping(self, depends_on=[logs, role])
        outputs = ("arn", "endpoint", "certificateAuthority", "identities")
        return AwsResource("eks/cluster:Cluster", "cluster", inputs, options, outputs)

    def _admin(self, arn: str) -> AwsResource:
        who = arn.rpartition("/")[2]
        entry = {"clusterName": self.name, "principalArn": arn}
        entered = AwsResource("eks/accessEntry:AccessEntry", who, entry, self._child)
        policy = {**entry, "policyArn": ADMIN_POLICY, "accessScope": {"type": "cluster"}}
        options = pulumi.ResourceOptions(parent=self, depends_on=[entered])
        return AwsResource("eks/accessPolicyAssociation:AccessPolicyAssociation", who, policy, options)

    def _addon(self, name: str, after: Sequence[pulumi.Resource] = ()) -> AwsResource:
        inputs: dict[str, Any] = {
            "clusterName": self.name,
            "addonName": name,
            "addonVersion": ADDON_VERSIONS[self._args.config.version][name],
            "resolveConflictsOnCreate": "OVERWRITE",
            "resolveConflictsOnUpdate": "PRESERVE",
        }
        if name in ADDON_SETTINGS:
            inputs["configurationValues"] = json.dumps(ADDON_SETTINGS[name])
        if name in ADDON_ROLES:
            account, policy = ADDON_ROLES[name]
            role = iam.role(self._scope, name, iam.trust(iam.POD_IDENTITY), [], self._child, managed=[policy])
            inputs["podIdentityAssociations"] = [{"serviceAccount": account, "roleArn": role.output("arn")}]
        options = pulumi.ResourceOptions(parent=self, depends_on=list(after))
        return AwsResource("eks/addon:Addon", name, inputs, options)

    def _system_nodes(self, after: Sequence[pulumi.Resource]) -> AwsResource:
        settings = self._args.config.system_nodes
        group = nodes.Group(
            name="system",
            instance_types=settings.instance_types,
            count=settings.count,
            disk_gb=settings.disk_gb,
            ami=nodes.AMI,
        )
        return nodes.managed(
            self._scope, group, self.name, self.node_role, self._args.network.private, self._args.disk_key, self, after
        )

    def _kubeconfig(self) -> pulumi.Output[str]:
        """How Pulumi reaches the API server: as whoever runs it, by a token that lasts minutes. No secret is in it.

        By way of what makes the cluster usable: nobody asks it before it lets them in and pods can run.
        """
        told = pulumi.Output.all(
            self.name,
            self.cluster.output("endpoint"),
            self.cluster.output("certificateAuthority"),
            *(each.id for each in self.ready),
        )
        return told.apply(lambda it: kubeconfig(it[0], it[1], it[2]["data"], self._scope.region))


def kubeconfig(name: str, endpoint: str, authority: str, region: str) -> str:
    """A kubeconfig whose user is a command."""
    command = ["eks", "get-token", "--cluster-name", name, "--region", region, "--output", "json"]
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "aws", "args": command,
                     "interactiveMode": "Never"}}  # fmt: skip
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": endpoint, "certificate-authority-data": authority}}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
    )
