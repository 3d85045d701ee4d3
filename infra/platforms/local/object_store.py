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
    from collections.abc import Mapping

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
    """S3 with one bucket and one user that owns it; root's credentials stay with the server and the bootstrap."""

    bucket: Bucket

    def __init__(self, name: str, args: ObjectStoreArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:platforms:ObjectStore", name, {}, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        self._namespace = args.namespaces.platform
        root = self._credentials("root", ROOT_ACCESS_KEY)
        user = self._credentials("mlflow", names.MLFLOW)
        claims = {volume: self._claim(volume, size) for volume, size in (("data", args.size), ("iam", IAM_SIZE))}
        declare(f"{name}-policy", self._network_policy(), self._child)
        declare(f"{name}-bootstrap-policy", self._bootstrap_policy(), self._child)
        server = declare(name, server_manifest(self._namespace, args.image, name_of(root), claims), self._child)
        service = declare(
            name,
            workloads.service(names.OBJECT_STORE, self._namespace, LABELS, {"s3": PORT}),
            pulumi.ResourceOptions(parent=self, depends_on=[server]),
        )
        endpoint = pulumi.Output.format(
            "http://{0}:{1}", name_of(service).apply(lambda it: names.service_host(it, names.PLATFORM_NAMESPACE)), PORT
        )
        bootstrapped = self._bootstrap(args.bootstrap_image, endpoint, root, user)
        self.bucket = Bucket(
            # By way of the Job: whoever uses the bucket waits for it.
            name=name_of(bootstrapped).apply(lambda _: names.MODELS_BUCKET),
            endpoint=endpoint,
            region=pulumi.Output.from_input(REGION),
            credentials=name_of(user),
        )
        self.register_outputs({"bucket": self.bucket.name, "endpoint": endpoint})

    def _claim(self, volume: str, size: str) -> pulumi.Output[str]:
        name = f"{names.OBJECT_STORE}-{volume}"
        return name_of(declare(name, workloads.volume_claim(name, self._namespace, LABELS, size), self._child))

    def _credentials(self, owner: str, access_key: str) -> pulumi.CustomResource:
        secret = RandomSecret(f"{names.OBJECT_STORE}-{owner}", SECRET_BYTES, self._child)
        values: dict[str, pulumi.Input[str]] = {CREDENTIAL_KEYS[0]: access_key, CREDENTIAL_KEYS[1]: secret.result}
        manifest = workloads.secret(f"{names.OBJECT_STORE}-{owner}", self._namespace, values)
        return declare(f"{names.OBJECT_STORE}-{owner}", manifest, self._child)

    def _bootstrap(
        self,
        image: str,
        endpoint: pulumi.Output[str],
        root: pulumi.CustomResource,
        user: pulumi.CustomResource,
    ) -> pulumi.CustomResource:
        name = f"{names.OBJECT_STORE}-bootstrap"
        script = workloads.config_map(
            name, self._namespace, BOOTSTRAP_LABELS, {BOOTSTRAP_SCRIPT.name: BOOTSTRAP_SCRIPT.read_text()}
        )
        mounted = declare(name, script, self._child)
        manifest = bootstrap_manifest(
            self._namespace, image, endpoint, (name_of(root), name_of(user)), name_of(mounted)
        )
        # A Job cannot change: the provider replaces it, and the new one needs the old one's name.
        return declare(name, manifest, pulumi.ResourceOptions(parent=self, delete_before_replace=True))

    def _network_policy(self) -> Manifest:
        clients = network.namespace_peer(self._namespace, CLIENT_LABELS)
        return network.allow(
            names.OBJECT_STORE, self._namespace, LABELS, ingress=[network.flow("from", [clients], [PORT])]
        )

    def _bootstrap_policy(self) -> Manifest:
        server = network.namespace_peer(self._namespace, LABELS)
        return network.allow(
            f"{names.OBJECT_STORE}-clients",
            self._namespace,
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
    secrets: tuple[pulumi.Input[str], pulumi.Input[str]],
    script: pulumi.Input[str],
) -> Manifest:
    """The Job that makes bucket and user; `secrets` are root's and the user's."""
    volumes: dict[str, Manifest] = {
        "script": {"configMap": {"name": script}},
        "root": {"secret": {"secretName": secrets[0]}},
        "user": {"secret": {"secretName": secrets[1]}},
        "scratch": {"emptyDir": {"sizeLimit": "64Mi"}},
    }
    container = workloads.container(
        "bootstrap",
        image,
        workloads.resources(cpu="100m", cpu_limit="1", memory="256Mi"),
        {"script": "/script", "root": "/credentials/root", "user": "/credentials/user", "scratch": workloads.SCRATCH},
        command=["python", f"/script/{BOOTSTRAP_SCRIPT.name}", endpoint, REGION, names.MODELS_BUCKET],
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
