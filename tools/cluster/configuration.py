"""The files that the cluster's components read, rendered from its layout into the state directory."""

from __future__ import annotations

import base64
import json
import secrets
from typing import TYPE_CHECKING, Any

import yaml

from tools import paths
from tools.cluster import layout as names
from tools.cluster.pki import Authority, write_service_account_keys

if TYPE_CHECKING:
    from pathlib import Path

    from tools.cluster.layout import Layout

KERNEL_TUNABLES = {
    # What the kubelet sets for the whole machine (pkg/kubelet/cm/container_manager_linux.go). The cluster is shown
    # these values instead, so that it has nothing to change outside itself.
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}


def render(layout: Layout) -> None:
    """Write every file; what holds a secret is made once and kept."""
    _certificates(layout)
    _encryption_key(layout)
    _write(layout.file("kubelet.yaml"), yaml.safe_dump(_kubelet(layout)))
    _write(layout.file("kube-proxy.yaml"), yaml.safe_dump(_kube_proxy(layout)))
    _write(layout.file("containerd.toml"), _containerd(layout))
    _write(layout.file("cni", "conf", "10-slipway.conflist"), json.dumps(_cni(layout), indent=2))
    _write(layout.file("Corefile"), _corefile(layout))
    _write(
        layout.file("resolv.conf"), f"# pods ask CoreDNS; there is no resolver above it\nnameserver {layout.node_ip}\n"
    )
    for path, value in KERNEL_TUNABLES.items():
        _write(layout.file("tunables", *path.split("/")), f"{value}\n")
    authority = Authority(layout.file("pki"), "slipway")
    for name in (
        "admin",
        "controller-manager",
        "scheduler",
        "kubelet",
        "kube-proxy",
        "coredns",
        "provisioner",
        "metrics-server",
    ):
        target = layout.kubeconfig if name == "admin" else layout.file(f"{name}.kubeconfig")
        _write(target, yaml.safe_dump(_kubeconfig(layout, authority, name)), mode=0o600)


def _certificates(layout: Layout) -> None:
    authority = Authority(layout.file("pki"), "slipway")
    loopback = ("127.0.0.1", "localhost")
    authority.issue("etcd", "etcd", hosts=loopback)
    authority.issue("etcd-client", "kube-apiserver")
    authority.issue(
        "apiserver",
        "kube-apiserver",
        hosts=(
            *loopback,
            layout.node_ip,
            names.KUBERNETES_SERVICE_IP,
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            f"kubernetes.default.svc.{names.DNS_DOMAIN}",
        ),
    )
    authority.issue("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters")
    authority.issue("kubelet-server", f"system:node:{layout.name}", "system:nodes", hosts=(layout.node_ip, layout.name))
    authority.issue("metrics-server-serving", "metrics-server", hosts=("metrics-server.kube-system.svc",))
    authority.issue("admin", "slipway-admin", "system:masters")
    authority.issue("controller-manager", "system:kube-controller-manager")
    authority.issue("scheduler", "system:kube-scheduler")
    authority.issue("kubelet", f"system:node:{layout.name}", "system:nodes")
    authority.issue("kube-proxy", "system:kube-proxy")
    authority.issue("coredns", "slipway:coredns")
    authority.issue("provisioner", "slipway:hostpath-provisioner")
    authority.issue("metrics-server", "slipway:metrics-server")
    # A second authority, so that no client certificate of the first can pose as the aggregating API server.
    Authority(layout.file("pki", "front-proxy"), "slipway-front-proxy").issue("client", "front-proxy-client")
    write_service_account_keys(layout.file("pki"))


def _encryption_key(layout: Layout) -> None:
    path = layout.file("encryption.yaml")
    if path.exists():
        return
    key = {"name": "key1", "secret": base64.b64encode(secrets.token_bytes(32)).decode()}
    configuration = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": [{"secretbox": {"keys": [key]}}, {"identity": {}}]}],
    }
    _write(path, yaml.safe_dump(configuration), mode=0o600)


def _kubeconfig(layout: Layout, authority: Authority, name: str) -> dict[str, Any]:
    def embedded(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    context = f"slipway-{layout.name}"
    user = {
        "client-certificate-data": embedded(authority.certificate_file(name)),
        "client-key-data": embedded(authority.key_file(name)),
    }
    cluster = {"server": layout.server, "certificate-authority-data": embedded(authority.certificate_file("ca"))}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [{"name": context, "cluster": cluster}],
        "users": [{"name": context, "user": user}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
    }


def _kubelet(layout: Layout) -> dict[str, Any]:
    pki = layout.file("pki")
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.node_ip,
        "port": names.KUBELET_PORT,
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet-server.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        "failCgroupV1": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "clusterDNS": [names.DNS_SERVICE_IP],
        "clusterDomain": names.DNS_DOMAIN,
        "resolvConf": str(layout.file("resolv.conf")),
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "podLogsDir": str(layout.file("pod-logs")),
        "volumePluginDir": str(layout.file("volume-plugins")),
        # Images cannot be pulled again here: collecting them would break every pod that starts later.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1Gi", "imagefs.available": "1Gi"},
        "evictionPressureTransitionPeriod": "30s",
        "nodeStatusUpdateFrequency": "10s",
        "syncFrequency": "30s",
        "shutdownGracePeriod": "0s",
    }


def _kube_proxy(layout: Layout) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": layout.node_ip,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "hostnameOverride": layout.name,
        "mode": "iptables",
        "clusterCIDR": names.POD_CIDR,
        "clientConnection": {"kubeconfig": str(layout.file("kube-proxy.kubeconfig"))},
        # The kernel's connection tracking belongs to the machine: leave its limits as they are.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        # Endpoints that change reach the rules fast: a rollout is only as quick as this.
        "iptables": {"minSyncPeriod": "100ms"},
    }


def _containerd(layout: Layout) -> str:
    return f"""\
version = 2
root = "{layout.file("containerd")}"
state = "/run/containerd"

[grpc]
  address = "{layout.containerd_socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{names.PAUSE_IMAGE}"
  # A container's score must not be set below the machine's own where that needs CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{names.CNI_BIN}"
    conf_dir = "{names.CNI_CONF}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{layout.file("containerd-opt")}"
"""


def _cni(layout: Layout) -> dict[str, Any]:
    return {
        "cniVersion": "0.4.0",
        "name": "slipway",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "ipMasq": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(layout.file("cni-networks")),
                    "ranges": [[{"subnet": names.POD_CIDR}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _corefile(layout: Layout) -> str:
    return f"""\
.:53 {{
    bind {layout.node_ip}
    errors
    health 127.0.0.1:8181
    ready 127.0.0.1:8182
    kubernetes {names.DNS_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {layout.file("coredns.kubeconfig")}
        pods insecure
        ttl 5
    }}
    cache 5
    loadbalance
}}
"""


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    paths.write_whole(path, text.encode(), mode=mode)
