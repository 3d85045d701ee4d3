"""The local platform: any single cluster, with S3 inside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.k8s import workloads
from infra.k8s.manifest import declare, name_of
from infra.k8s.namespaces import isolated
from infra.outputs import Exposure, MlflowDatabase, Namespaces, PlatformOutputs
from infra.platforms.local.access import LocalAccess
from infra.platforms.local.kafka import KafkaBroker, KafkaBrokerArgs
from infra.platforms.local.object_store import ObjectStore, ObjectStoreArgs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.config.platform import KafkaConfig, LocalPlatformConfig
    from infra.config.stack import ImageName

MLFLOW_DATABASE_URI = "sqlite:////database/mlflow.db"
"""On MLflow's volume, mounted at `/database`."""


@dataclass(frozen=True, kw_only=True)
class LocalPlatformArgs:
    """What the local platform is made from."""

    config: LocalPlatformConfig
    images: Mapping[ImageName, str]
    """References by name: `object-store` and `mlflow`."""
    mlflow_database_size: str


class LocalPlatform(pulumi.ComponentResource):
    """Namespaces under `restricted` and default-deny, S3 with its buckets, a volume for MLflow's database."""

    outputs: PlatformOutputs

    def __init__(self, name: str, args: LocalPlatformArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:platforms:LocalPlatform", name, {}, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        namespaces = Namespaces(
            platform=isolated(names.PLATFORM_NAMESPACE, self._child),
            models=isolated(names.MODELS_NAMESPACE, self._child),
        )
        store = self._object_store(namespaces, args)
        kafka = args.config.kafka
        broker = self._kafka(namespaces, kafka, args.images["kafka"]) if kafka.enabled else None
        self.outputs = PlatformOutputs(
            namespaces=namespaces,
            models_bucket=store.models_bucket,
            features_bucket=store.features_bucket,
            predictions_bucket=store.predictions_bucket,
            mlflow_database=self._mlflow_database(namespaces, args.mlflow_database_size),
            exposure=Exposure(node_port=args.config.gateway_port, url=args.config.url, internal=args.config.internal),
            access=LocalAccess(s3=store.credentials, kafka_admin=None if broker is None else broker.admin),
            kafka=None if broker is None else broker.kafka,
        )
        self.register_outputs({"url": self.outputs.exposure.url})

    def _object_store(self, namespaces: Namespaces, args: LocalPlatformArgs) -> ObjectStore:
        store_args = ObjectStoreArgs(
            namespaces=namespaces,
            image=args.images["object-store"],
            bootstrap_image=args.images["mlflow"],
            size=args.config.object_store_size,
        )
        return ObjectStore(names.OBJECT_STORE, store_args, self._child)

    def _kafka(self, namespaces: Namespaces, config: KafkaConfig, image: str) -> KafkaBroker:
        args = KafkaBrokerArgs(config=config, image=image, namespaces=namespaces)
        return KafkaBroker(names.KAFKA, args, self._child)

    def _mlflow_database(self, namespaces: Namespaces, size: str) -> MlflowDatabase:
        labels = {names.LABEL_NAME: names.MLFLOW}
        manifest = workloads.volume_claim(f"{names.MLFLOW}-database", namespaces.platform, labels, size)
        claim = declare(f"{names.MLFLOW}-database", manifest, self._child)
        return MlflowDatabase(uri=pulumi.Output.from_input(MLFLOW_DATABASE_URI), claim=name_of(claim))
