"""The registry of a stack whose MLflow keeps its database on a volume and its artifacts in the cluster's S3."""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra import names
from infra.addons.mlflow import ARTIFACTS, LABELS
from infra.platforms.local.object_store import CREDENTIAL_KEYS, PORT, REGION
from tools.backup.places import S3
from tools.backup.registry import DatabaseFile
from tools.recovery import RESTORER, SERVER, WITHIN, end_rest, rests
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.environment import Environment
    from tools.kubectl import Kubectl

SELECTOR = ",".join(f"{name}={value}" for name, value in LABELS.items())

RESTORE_SECONDS = 3600
"""After which that pod ends by itself, should nobody be left to end it."""


@dataclass(frozen=True, kw_only=True)
class ClusterRegistry:
    """It, and its artifacts at an address of this machine."""

    kubectl: Kubectl
    artifacts: S3

    @property
    def database(self) -> DatabaseFile:
        """Of the server that runs."""
        if rests(self.kubectl):
            raise StepError(
                "MLflow rests → a restore is under way, or was killed → wait for that one, or start it by `slipway up`"
            )
        return self._database(SERVER)

    @contextlib.contextmanager
    def resting(self) -> Iterator[DatabaseFile]:
        """The server's pod goes, and one that only holds its volume comes in its place."""
        kubectl = self.kubectl
        server = json.loads(kubectl.ask("get", SERVER, "--output=json"))
        kubectl.ask("scale", SERVER, "--replicas=0")
        try:
            for pod in kubectl.ask("get", "pods", f"--selector={SELECTOR}", "--output=name").split():
                kubectl.ask("wait", "--for=delete", WITHIN, pod)
            kubectl.ask("delete", RESTORER, "--ignore-not-found", "--wait")
            kubectl.ask("create", "--filename=-", given=json.dumps(restorer(server)))
            kubectl.ask("wait", "--for=condition=Ready", WITHIN, RESTORER)
            yield self._database(RESTORER)
        finally:
            end_rest(kubectl)

    def _database(self, where: str) -> DatabaseFile:
        return DatabaseFile(self.kubectl.argv("exec", "--stdin", where, "--", "python"))


@contextlib.contextmanager
def registry(environment: Environment) -> Iterator[ClusterRegistry]:
    """The registry of a local platform. MLflow's own credentials of S3 stay in this process."""
    import boto3  # noqa: PLC0415  # half a second

    kubectl = environment.kubectl(names.PLATFORM_NAMESPACE)
    secret = json.loads(kubectl.ask("get", f"secret/{names.OBJECT_STORE}-{names.MLFLOW}", "--output=json"))["data"]
    key, password = (base64.b64decode(secret[name]).decode() for name in CREDENTIAL_KEYS)
    session = boto3.session.Session(aws_access_key_id=key, aws_secret_access_key=password, region_name=REGION)
    with kubectl.forwarded(names.OBJECT_STORE, PORT) as endpoint:
        client = session.client("s3", endpoint_url=endpoint)
        yield ClusterRegistry(kubectl=kubectl, artifacts=S3(client, names.MODELS_BUCKET, ARTIFACTS))


def restorer(server: dict[str, Any]) -> dict[str, Any]:
    """The pod: the server's own, image, account and volumes, but nobody's to send requests to."""
    template = server["spec"]["template"]
    (container,) = template["spec"]["containers"]
    kept = ("name", "image", "imagePullPolicy", "resources", "securityContext", "volumeMounts", "env")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": RESTORER.removeprefix("pod/")},
        "spec": {
            **template["spec"],
            "restartPolicy": "Never",
            "activeDeadlineSeconds": RESTORE_SECONDS,
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {**{name: container[name] for name in kept}, "command": ["sleep", str(RESTORE_SECONDS)]},
            ],
        },
    }
