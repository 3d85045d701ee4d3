"""What programs expect of a Kubernetes cluster, asked of the embedded one."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.cluster.test_lifecycle import eventually
from tools.cluster.layout import PAUSE_IMAGE, Layout
from tools.steps import StepError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod(name: str, **spec: object) -> str:
    container = {"name": "main", "image": PAUSE_IMAGE, "imagePullPolicy": "Never", **spec.pop("container", {})}
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], **spec},
    }
    return json.dumps(manifest)


def test_the_standard_restricted_refuses_a_privileged_pod_and_admits_a_restricted_one(running_cluster):
    running_cluster.kubectl("create", "namespace", "guarded")
    running_cluster.kubectl("label", "namespace", "guarded", "pod-security.kubernetes.io/enforce=restricted")
    running_cluster.kubectl("wait", "-n", "guarded", "--for=create", "serviceaccount/default", "--timeout=25s")
    privileged = pod("bad", container={"securityContext": {"privileged": True}})
    with pytest.raises(StepError, match='violates PodSecurity "restricted'):
        running_cluster.kubectl("apply", "-n", "guarded", "-f", "-", stdin=privileged)
    running_cluster.kubectl(
        "apply", "-n", "guarded", "-f", "-", stdin=pod("good", container={"securityContext": RESTRICTED})
    )
    running_cluster.kubectl("wait", "-n", "guarded", "--for=condition=Ready", "pod/good", "--timeout=25s")


def test_a_claim_gets_a_directory_and_loses_it_with_itself(running_cluster):
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    running_cluster.kubectl("apply", "-f", "-", stdin=json.dumps(claim))
    user = pod(
        "user",
        container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    )
    running_cluster.kubectl("apply", "-f", "-", stdin=user)
    running_cluster.kubectl("wait", "--for=condition=Ready", "pod/user", "--timeout=25s")
    volume = running_cluster.kubectl("get", "pvc", "data", "-o", "jsonpath={.spec.volumeName}")
    directory = Path(Layout(running_cluster.name).file("volumes", volume))
    assert directory.is_dir(), "the default StorageClass really provisions"
    running_cluster.kubectl("delete", "pod", "user", "--now")
    running_cluster.kubectl("delete", "pvc", "data")
    eventually(lambda: not directory.exists(), "the directory goes with the claim", 30)


def test_rbac_is_on_and_service_accounts_start_with_no_rights(running_cluster):
    with pytest.raises(StepError, match='cannot list resource "secrets"'):
        running_cluster.kubectl("get", "secrets", "--as=system:serviceaccount:default:default")
    token = running_cluster.kubectl("create", "token", "default")
    assert token.count(".") == 2, "a service-account token is a JWT of three parts"


def test_secrets_are_encrypted_on_disk(running_cluster):
    marker = f"plain-{time.time_ns()}"
    running_cluster.kubectl("create", "secret", "generic", "hidden", f"--from-literal=key={marker}")
    running_cluster.kubectl("create", "configmap", "shown", f"--from-literal=key={marker}")
    stored = b"".join(
        path.read_bytes() for path in Layout(running_cluster.name).file("etcd").rglob("*") if path.is_file()
    )
    assert stored.count(marker.encode()) >= 1, "the ConfigMap proves that the search would find plain text"
    before = stored.rpartition(b"/registry/secrets/default/hidden")[2][:400]
    assert b"k8s:enc:secretbox" in before, "etcd holds the Secret in the form that the key in encryption.yaml opens"


def test_metrics_of_pods_and_nodes_are_served(running_cluster):
    def served() -> bool:
        try:
            return running_cluster.name in running_cluster.kubectl("top", "node")
        except StepError:
            return False

    eventually(served, "kubectl top node", 90)


def test_the_api_server_refuses_callers_without_a_certificate(running_cluster):
    context = ssl.create_default_context(cafile=str(Layout(running_cluster.name).file("pki", "ca.crt")))
    server = running_cluster.status()["server"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{server}/api", timeout=5, context=context)  # noqa: S310 our own server
