"""Every golden against Kubernetes' own API server and the real CRDs: schema, defaults, admission."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from infra.certificate import issue
from infra.platforms.aws.karpenter import CHART_VERSION
from tests.golden.rendering import GOLDEN, stacks
from tests.infra.waiting import answers, until
from tests.processes import free_port
from tools.toolchain.build import share
from tools.toolchain.recipes import KEDA_VERSION, KUBERAY_VERSION

pytestmark = pytest.mark.engine

MODULES = {
    "github.com/kedacore/keda/v2": (KEDA_VERSION, "config/crd/bases"),
    "github.com/ray-project/kuberay/ray-operator": (KUBERAY_VERSION, "config/crd/bases"),
    "github.com/aws/karpenter-provider-aws": (CHART_VERSION, "pkg/apis/crds"),
}
"""Where the kinds are that no part of the toolchain brings: in the sources of the release that is deployed."""

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: test
clusters: [{{name: test, cluster: {{server: "https://127.0.0.1:{port}", insecure-skip-tls-verify: true}}}}]
users: [{{name: test, user: {{token: test-token}}}}]
contexts: [{{name: test, context: {{cluster: test, user: test}}}}]
"""


@pytest.fixture(scope="module")
def kubectl(toolchain_bin, tmp_path_factory):
    """kubectl against an API server of the tests' own, with the CRDs and namespaces that the goldens need."""
    home = tmp_path_factory.mktemp("api-server")
    etcd_port, peer_port, api_port = free_port(), free_port(), free_port()
    key = home / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    (home / "tokens").write_text("test-token,admin,1,system:masters\n")
    (home / "kubeconfig").write_text(KUBECONFIG.format(port=api_port))
    etcd_url, peer_url = f"http://127.0.0.1:{etcd_port}", f"http://127.0.0.1:{peer_port}"
    etcd = [f"--data-dir={home / 'etcd'}", f"--listen-client-urls={etcd_url}", f"--advertise-client-urls={etcd_url}"]
    etcd += [f"--listen-peer-urls={peer_url}", f"--initial-advertise-peer-urls={peer_url}"]
    etcd += [f"--initial-cluster=default={peer_url}", "--unsafe-no-fsync"]
    api = [f"--etcd-servers={etcd_url}", "--bind-address=127.0.0.1", f"--secure-port={api_port}"]
    api += [f"--cert-dir={home / 'certs'}", f"--token-auth-file={home / 'tokens'}", "--authorization-mode=RBAC"]
    api += [f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}"]
    api += ["--service-account-issuer=https://test", "--service-cluster-ip-range=10.99.0.0/24"]
    api += ["--endpoint-reconciler-type=none", "--advertise-address=127.0.0.2"]
    # There is no controller that would make service accounts.
    api += ["--disable-admission-plugins=ServiceAccount"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "KUBECONFIG": str(home / "kubeconfig")}
        command = [str(toolchain_bin / "kubectl"), *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)

    with (
        (home / "log").open("wb") as log,
        subprocess.Popen([toolchain_bin / "etcd", *etcd], stdout=log, stderr=log) as store,
        subprocess.Popen([toolchain_bin / "kube-apiserver", *api], stdout=log, stderr=log) as server,
    ):
        try:
            until(answers(f"https://127.0.0.1:{api_port}/readyz", verify=False), within=60, what="the API server")
            prepare(run)
            yield run
        finally:
            server.terminate()
            server.wait()
            store.terminate()


def prepare(run) -> None:
    crds = share("istio") / "istio" / "charts" / "base" / "files" / "crd-all.gen.yaml"
    kinds = [crds, *(sources(module, version) / path for module, (version, path) in MODULES.items())]
    spaces = {path.name: path for stack in stacks() for path in (GOLDEN / stack).glob("*.namespace.*.yaml")}
    for files in (kinds, spaces.values()):
        done = run("apply", "--server-side", *(f"--filename={path}" for path in files))
        assert done.returncode == 0, done.stderr
    done = run("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    assert done.returncode == 0, done.stderr


def sources(module: str, version: str) -> Path:
    """A Go module's files."""
    command = ["go", "mod", "download", "-json", f"{module}@v{version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "GOFLAGS": ""})
    found = json.loads(done.stdout)
    assert done.returncode == 0, f"{module}: {found.get('Error')}"
    return Path(found["Dir"])


def with_certificates(manifest: str) -> str:
    """Where a golden has the words that stand for a certificate, a real one: the API server reads it."""
    document = yaml.safe_load(manifest)
    if document["kind"] == "Secret" and document.get("type") == "kubernetes.io/tls":
        issued = issue(["test"])
        document["stringData"] = {"tls.crt": issued["certificate"], "tls.key": issued["key"]}
    return yaml.safe_dump(document)


def objects(stack: str) -> list[Path]:
    """Goldens that an API server knows: Helm releases are Pulumi's, and AWS' resources are AWS'."""
    return [
        path
        for path in sorted((GOLDEN / stack).glob("*.yaml"))
        if ".release." not in path.name and not path.name.startswith("aws.")
    ]


@pytest.mark.parametrize("stack", stacks())
def test_the_api_server_accepts_every_object_without_a_warning(kubectl, stack, tmp_path: Path):
    there = objects(stack)
    for path in there:
        (tmp_path / path.name).write_text(with_certificates(path.read_text()))
    done = kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", f"--filename={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, f"Pod Security or a deprecation: {done.stderr}"
    assert len(done.stdout.splitlines()) == len(there) > 0
