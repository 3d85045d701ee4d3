"""The AWS platform: one environment in one region of one account, with the same outputs as any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import pulumi

from infra import names
from infra.access import BucketRole
from infra.k8s import helm
from infra.k8s.manifest import Manifest, declare, metadata, name_of
from infra.k8s.namespaces import isolated
from infra.outputs import Namespaces, PlatformOutputs
from infra.platforms.aws import gpu_pools, iam, keys, node_pools, nodes, nvidia
from infra.platforms.aws.buckets import Buckets, BucketsArgs
from infra.platforms.aws.cluster import Cluster, ClusterArgs
from infra.platforms.aws.database import Database, DatabaseArgs
from infra.platforms.aws.database_user import DatabaseUser, DatabaseUserArgs
from infra.platforms.aws.facts import OFFERS, Facts, aws_provider, kubernetes_provider, platform_outputs
from infra.platforms.aws.gateway import GatewayArgs, LoadBalancer
from infra.platforms.aws.images import Images, ImagesArgs
from infra.platforms.aws.kafka import Kafka, KafkaArgs
from infra.platforms.aws.karpenter import Karpenter, KarpenterArgs
from infra.platforms.aws.network import Network, NetworkArgs
from infra.platforms.aws.resource import Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.config.aws import AwsPlatformConfig

STORAGE_CLASS = "encrypted"


@dataclass(frozen=True, kw_only=True)
class AwsPlatformArgs:
    """What the platform is made from."""

    config: AwsPlatformConfig
    production: bool
    images: Sequence[str]
    """Names of the images that get a repository."""
    mlflow_image: str
    """Has what makes MLflow's user in the database."""


class AwsPlatform(pulumi.ComponentResource):
    """Network, cluster, buckets, database and the way in, in the order in which they need each other."""

    outputs: PlatformOutputs
    facts: Facts

    def __init__(self, name: str, args: AwsPlatformArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        tags = {"slipway:environment": args.config.name, "slipway:managed-by": "pulumi", **args.config.tags}
        aws = aws_provider(args.config.account, args.config.region, tags)
        said = described(args)
        super().__init__(
            "slipway:platforms:AwsPlatform",
            name,
            said,
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(providers=[aws])),
        )
        self._config, self._args = args.config, args
        self._child = pulumi.ResourceOptions(parent=self)
        self._scope = scope_of(args.config, production=args.production)
        self._log_key = keys.key(
            self._scope, "logs", "logs", self._child,
            {f"logs.{args.config.region}.amazonaws.com": keys.logs_condition(self._scope)},
        )  # fmt: skip
        self._disk_key = keys.key(
            self._scope, "disks", "disks of nodes and volumes", self._child, disk_users(self._scope)
        )
        self._network = Network(
            "network", NetworkArgs(scope=self._scope, config=args.config.network, log_key=self._log_key), self._child
        )
        self._cluster = Cluster("cluster", self._cluster_args(), self._child)
        self.kubernetes = kubernetes_provider(self._cluster.kubeconfig, self._child)
        self._inside = pulumi.ResourceOptions(parent=self, provider=self.kubernetes, depends_on=self._cluster.ready)
        declare(STORAGE_CLASS, storage_class(self._disk_key.output("arn")), self._inside)
        namespaces = Namespaces(
            platform=isolated(names.PLATFORM_NAMESPACE, self._inside),
            models=isolated(names.MODELS_NAMESPACE, self._inside),
        )
        gpus = self._pools()
        buckets = Buckets("buckets", BucketsArgs(scope=self._scope, log_days=args.config.log_bucket_days), self._child)
        Images("images", ImagesArgs(scope=self._scope, names=args.images), self._child)
        kafka = self._kafka()
        database = self._database()
        user = self._database_user(database, namespaces)
        self._gateway()
        self.facts = Facts(
            prefix=known(self._scope.prefix),
            account=known(args.config.account),
            region=known(args.config.region),
            tags=known(tags),
            boundary=known(args.config.permissions_boundary),
            cluster=self._cluster.name,
            kubeconfig=self._cluster.kubeconfig,
            platform_namespace=namespaces.platform,
            models_namespace=namespaces.models,
            gpus_namespace=known(gpus),
            buckets=pulumi.Output.all(**{role: buckets[role].output("bucket") for role in get_args(BucketRole)}),
            bucket_key=buckets.key.output("arn"),
            kafka=known(None) if kafka is None else pulumi.Output.all(arn=kafka.arn, bootstrap=kafka.bootstrap),
            database=pulumi.Output.all(address=user.address, id=database.instance.output("resourceId")),
            data_cidrs=known([*self._network.data_cidrs]),
            offers=known({key: getattr(args.config, key) for key in OFFERS}),
        )
        providers = (aws, self.kubernetes)
        self.outputs = platform_outputs(self.facts, args.config, providers)
        self.register_outputs({**said, "url": self.outputs.exposure.url})

    def _cluster_args(self) -> ClusterArgs:
        return ClusterArgs(
            scope=self._scope,
            config=self._config.cluster,
            network=self._network,
            log_key=self._log_key,
            disk_key=self._disk_key,
        )

    def _pools(self) -> pulumi.Output[str] | None:
        """Nodes for models, with GPUs and without, and NVIDIA's exporter on the former: its namespace."""
        pools, cluster = self._config.gpu_pools, self._cluster
        made = [node_pools.of_models(self._config.cluster.model_nodes)]
        for pool, config in pools.items():
            if config.provisioner == "karpenter":
                made.append(node_pools.of_gpus(pool, config))
                continue
            group = gpu_pools.group(pool, config)
            nodes.managed(
                self._scope, group, cluster.name, cluster.node_role, self._network.private, self._disk_key, self,
                cluster.ready,
            )  # fmt: skip
        args = KarpenterArgs(scope=self._scope, cluster=cluster, pools=made, kubernetes=self.kubernetes)
        Karpenter("karpenter", args, self._child)
        return self._nvidia() if pools else None

    def _nvidia(self) -> pulumi.Output[str]:
        namespace = name_of(declare(names.GPUS_NAMESPACE, nvidia.namespace(), self._inside))
        repository, chart, pinned = nvidia.DCGM_EXPORTER
        helm.release(
            chart, chart, namespace, self._inside, values=nvidia.dcgm_values(), repository=repository, version=pinned
        )
        return namespace

    def _kafka(self) -> Kafka | None:
        if self._config.kafka is None:
            return None
        args = KafkaArgs(
            scope=self._scope,
            config=self._config.kafka,
            network=self._network,
            clients=self._cluster.security_group,
            log_key=self._log_key,
        )
        return Kafka("kafka", args, self._child)

    def _database(self) -> Database:
        args = DatabaseArgs(
            scope=self._scope,
            config=self._config.database,
            network=self._network,
            clients=self._cluster.security_group,
            production=self._args.production,
        )
        return Database("database", args, self._child)

    def _database_user(self, database: Database, namespaces: Namespaces) -> DatabaseUser:
        args = DatabaseUserArgs(
            scope=self._scope,
            cluster=self._cluster,
            database=database,
            data_cidrs=known([*self._network.data_cidrs]),
            namespace=namespaces.platform,
            image=self._args.mlflow_image,
            kubernetes=self.kubernetes,
        )
        return DatabaseUser("mlflow-user", args, self._child)

    def _gateway(self) -> None:
        args = GatewayArgs(
            scope=self._scope,
            config=self._config.gateway,
            network=self._network,
            vpc_cidr=self._config.network.cidr,
            nodes=self._cluster.system_nodes,
            nodes_group=self._cluster.security_group,
        )
        LoadBalancer("gateway", args, self._child)


def described(args: AwsPlatformArgs) -> dict[str, Any]:
    """What previews show of the platform and policies judge. Both its inputs and its outputs: rules about the whole
    stack see the latter alone.
    """
    config = args.config
    return {"environment": config.name, "production": args.production, "monthlyBudget": config.monthly_budget}


def scope_of(config: AwsPlatformConfig, *, production: bool) -> Scope:
    """Where everything is made."""
    return Scope(
        environment=config.name,
        account=config.account,
        region=config.region,
        protect=production if config.protect is None else config.protect,
        boundary=config.permissions_boundary,
    )


def storage_class(key_arn: pulumi.Input[str]) -> Manifest:
    """The default: disks of gp3, encrypted, made in the zone of the pod that wants one."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": metadata(STORAGE_CLASS, annotations={"storageclass.kubernetes.io/is-default-class": "true"}),
        "provisioner": "ebs.csi.aws.com",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
        "parameters": {"type": "gp3", "encrypted": "true", "kmsKeyId": key_arn},
    }


def disk_users(scope: Scope) -> dict[str, dict[str, object]]:
    """Autoscaling encrypts nodes' disks by itself, for this account's groups alone."""
    return {"autoscaling.amazonaws.com": iam.confused_deputy(scope)}


def known(value: Any) -> pulumi.Output[Any]:
    """What is known before anything is deployed."""
    return pulumi.Output.from_input(value)
