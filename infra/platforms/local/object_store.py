"""S3 on the local platform: versitygw over a volume."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pulumi

from infra import names
from infra.k8s import network, probes, workloads
from infra.k8s.manifest import Manifest, declare, name_of
from infra.outputs import Bucket, Namespaces
from infra.random_secret import RandomSecret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.access import BucketRole

PORT = 7070
REGION = "us-east-1"
"""versitygw's default; clients must sign for some region."""

HEALTH = "/health"
"""Where versitygw is told to answer health checks."""

ROOT_ACCESS_KEY = "root"
SECRET_BYTES = 24
"""192 bits."""

CREDENTIAL_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")

IAM_SIZE = "100Mi"
"""Of the volume with versitygw's users."""

BOOTSTRAP_SECONDS = 180
"""Time for the bucket's Job, image start and retries included."""

LABELS = {names.LABEL_NAME: names.OBJECT_STORE}
BOOTSTRAP_LABELS = {names.LABEL_NAME: f"{names.OBJECT_STORE}-bootstrap"}
CLIENT_LABELS = {names.LABEL_OBJECT_STORE_CLIENT: "true"}

OWNERS: Mapping[BucketRole, str] = {"models": names.MLFLOW, "features": names.BATCH, "predictions": names.BATCH}
"""Users by what their buckets are for."""

BUCKETS = {
    names.MLFLOW: (names.MODELS_BUCKET,),
    names.BATCH: (names.FEATURES_BUCKET, names.PREDICTIONS_BUCKET),
}
"""Buckets of each user."""

BOOTSTRAP_SCRIPT = Path(__file__).with_name("bootstrap.py")


@dataclass(frozen=True, kw_only=True)
class ObjectStoreArgs:
    """What S3 needs."""

    namespaces: Namespaces
    image: str
    """versitygw."""
    bootstrap_image: str
    """Python with botocore."""
    size: str
    """Of the volume."""


class ObjectStore(pulumi.ComponentResource):
    """S3 with a user for each of its clients, who owns the client's buckets and sees no other.

    Root's credentials stay with the server and the bootstrap.
    """

    models_bucket: Bucket
    features_bucket: Bucket
    predictions_bucket: Bucket
    credentials: Mapping[str, pulumi.Output[str]]
    """Secrets by user, each where its client runs, with the keys of `CREDENTIAL_KEYS`."""

    def __init__(self, name: str, args: ObjectStoreArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:platforms:ObjectStore", name, {}, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        self._namespace = args.namespaces.platform
        (root,) = self._credentials("root", ROOT_ACCESS_KEY, [self._namespace])
        (mlflow,) = self._credentials(names.MLFLOW, names.MLFLOW, [self._namespace])
        # The bootstrap has the user's secret in one namespace, the jobs in the other.
        batch, batch_jobs = self._credentials(names.BATCH, names.BATCH, [self._namespace, args.namespaces.models])
        claims = {volume: self._claim(volume, size) for volume, size in (("data", args.size), ("iam", IAM_SIZE))}
        declare(f"{name}-policy", self._network_policy(args.namespaces), self._child)
        declare(f"{name}-bootstrap-policy", self._clients_policy(self._namespace), self._child)
        declare(f"{name}-models-policy", self._clients_policy(args.namespaces.models), self._child)
        server = declare(name, server_manifest(self._namespace, args.image, name_of(root), claims), self._child)
        service = declare(
            name,
            workloads.service(names.OBJECT_STORE, self._namespace, LABELS, {"s3": PORT}),
            pulumi.ResourceOptions(parent=self, depends_on=[server]),
        )
        endpoint = pulumi.Output.format(
            "http://{0}:{1}", name_of(service).apply(lambda it: names.service_host(it, names.PLATFORM_NAMESPACE)), PORT
        )
        users = {"root": root, names.MLFLOW: mlflow, names.BATCH: batch}
        bootstrapped = self._bootstrap(args.bootstrap_image, endpoint, users)

        def bucket(bucket_name: str) -> Bucket:
            return Bucket(
                # By way of the Job: whoever uses the bucket waits for it.
                name=name_of(bootstrapped).apply(lambda _: bucket_name),
                endpoint=endpoint,
                region=pulumi.Output.from_input(REGION),
            )

        self.models_bucket = bucket(names.MODELS_BUCKET)
        self.features_bucket = bucket(names.FEATURES_BUCKET)
        self.predictions_bucket = bucket(names.PREDICTIONS_BUCKET)
        self.credentials = {names.MLFLOW: name_of(mlflow), names.BATCH: name_of(batch_jobs)}
        self.register_outputs({"bucket": self.models_bucket.name, "endpoint": endpoint})

    def _claim(self, volume: str, size: str) -> pulumi.Output[str]:
        name = f"{names.OBJECT_STORE}-{volume}"
        return name_of(declare(name, workloads.volume_claim(name, self._namespace, LABELS, size), self._child))

    def _credentials(
        self, owner: str, access_key: str, namespaces: Sequence[pulumi.Output[str]]
    ) -> list[pulumi.CustomResource]:
        """One Secret for each namespace, of the same user."""
        name = f"{names.OBJECT_STORE}-{owner}"
        secret = RandomSecret(name, SECRET_BYTES, self._child)
        values: dict[str, pulumi.Input[str]] = {CREDENTIAL_KEYS[0]: access_key, CREDENTIAL_KEYS[1]: secret.result}
        return [
            declare(name if at == 0 else f"{name}-client", workloads.secret(name, namespace, values), self._child)
            for at, namespace in enumerate(namespaces)
        ]

    def _bootstrap(
        self, image: str, endpoint: pulumi.Output[str], users: Mapping[str, pulumi.CustomResource]
    ) -> pulumi.CustomResource:
        name = f"{names.OBJECT_STORE}-bootstrap"
        script = workloads.config_map(
            name, self._namespace, BOOTSTRAP_LABELS, {BOOTSTRAP_SCRIPT.name: BOOTSTRAP_SCRIPT.read_text()}
        )
        mounted = declare(name, script, self._child)
        secrets = {owner: name_of(secret) for owner, secret in users.items()}
        manifest = bootstrap_manifest(self._namespace, image, endpoint, secrets, name_of(mounted))
        # A Job cannot change: the provider replaces it, and the new one needs the old one's name.
        return declare(name, manifest, pulumi.ResourceOptions(parent=self, delete_before_replace=True))

    def _network_policy(self, namespaces: Namespaces) -> Manifest:
        clients = [
            network.namespace_peer(namespace, CLIENT_LABELS) for namespace in (namespaces.platform, namespaces.models)
        ]
        return network.allow(
            names.OBJECT_STORE, self._namespace, LABELS, ingress=[network.flow("from", clients, [PORT])]
        )

    def _clients_policy(self, namespace: pulumi.Output[str]) -> Manifest:
        server = network.namespace_peer(self._namespace, LABELS)
        return network.allow(
            f"{names.OBJECT_STORE}-clients",
            namespace,
            CLIENT_LABELS,
            egress=[network.flow("to", [server], [PORT])],
        )


def server_manifest(
    namespace: pulumi.Input[str],
    image: str,
    root_secret: pulumi.Input[str],
    claims: Mapping[str, pulumi.Input[str]],
) -> Manifest:
    """The Deployment of versitygw: buckets on one volume, users on another, so that no bucket can hold the users."""
    container = workloads.container(
        "versitygw",
        image,
        workloads.resources(cpu="100m", cpu_limit="1", memory="512Mi"),
        {"data": "/data", "iam": "/iam", "scratch": workloads.SCRATCH},
        args=["--port", f":{PORT}", "--region", REGION, "--iam-dir", "/iam", "--health", HEALTH, "posix", "/data"],
        env=workloads.secret_env(
            root_secret, dict(zip(("ROOT_ACCESS_KEY_ID", "ROOT_SECRET_ACCESS_KEY"), CREDENTIAL_KEYS, strict=True))
        ),
        ports=[{"name": "s3", "containerPort": PORT}],
        startupProbe=probes.startup(HEALTH, "s3", within=60),
        readinessProbe=probes.readiness(HEALTH, "s3"),
        livenessProbe=probes.liveness(HEALTH, "s3"),
    )
    pod = workloads.Pod(
        labels=LABELS,
        containers=[container],
        volumes={
            **{volume: {"persistentVolumeClaim": {"claimName": claim}} for volume, claim in claims.items()},
            "scratch": {"emptyDir": {"sizeLimit": "256Mi"}},
        },
    )
    return workloads.singleton(names.OBJECT_STORE, namespace, pod)


def bootstrap_manifest(
    namespace: pulumi.Input[str],
    image: str,
    endpoint: pulumi.Input[str],
    secrets: Mapping[str, pulumi.Input[str]],
    script: pulumi.Input[str],
) -> Manifest:
    """The Job that makes users and their buckets; `secrets` are root's and the users', by name."""
    volumes: dict[str, Manifest] = {
        "script": {"configMap": {"name": script}},
        **{owner: {"secret": {"secretName": secret}} for owner, secret in secrets.items()},
        "scratch": {"emptyDir": {"sizeLimit": "64Mi"}},
    }
    owned = [f"{owner}={','.join(buckets)}" for owner, buckets in BUCKETS.items()]
    container = workloads.container(
        "bootstrap",
        image,
        workloads.resources(cpu="100m", cpu_limit="1", memory="256Mi"),
        {"script": "/script", **{owner: f"/credentials/{owner}" for owner in secrets}, "scratch": workloads.SCRATCH},
        command=["python", f"/script/{BOOTSTRAP_SCRIPT.name}", endpoint, REGION, *owned],
        env=workloads.env({"HOME": workloads.SCRATCH}),
    )
    pod = workloads.Pod(
        labels={**BOOTSTRAP_LABELS, **CLIENT_LABELS},
        containers=[container],
        volumes=volumes,
        # Another script is another Job; its ConfigMap alone would not tell.
        annotations={"slipway.dev/script": hashlib.sha256(BOOTSTRAP_SCRIPT.read_bytes()).hexdigest()},
    )
    return workloads.job(f"{names.OBJECT_STORE}-bootstrap", namespace, pod, BOOTSTRAP_SECONDS)
