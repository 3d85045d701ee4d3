"""The programs of which the cluster consists, in the order they start: what runs, and what says that it works."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.cluster import layout as names

if TYPE_CHECKING:
    from pathlib import Path

    from tools.cluster.gpus import Gpus
    from tools.cluster.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Component:
    """One program. `probe` is the TCP port or Unix socket that answers once it works, None where it listens on none."""

    name: str
    argv: tuple[str, ...]
    probe: tuple[str, int] | Path | None
    ready_url: str | None = None
    """URL of the API server that answers 200 only once it can serve; asked besides the probe."""
    needs_addons: bool = False
    """Its rights come with the add-ons: it starts once they are applied."""
    on_host_network: bool = False


def components(
    layout: Layout, bin_directory: Path, gateway_port: int, gpus: Gpus | None = None
) -> tuple[Component, ...]:
    """All of them; each one starts when the probe of the one before it has answered."""
    pki = layout.file("pki")

    def program(name: str, *arguments: str) -> tuple[str, ...]:
        return (str(bin_directory / name), *arguments)

    return (
        Component(name="etcd", probe=("127.0.0.1", 2379), argv=program("etcd", *_etcd(layout))),
        Component(
            name="containerd",
            probe=layout.containerd_socket,
            argv=("containerd", "--config", str(layout.file("containerd.toml")), "--log-level", "warn"),
        ),
        Component(
            name="kube-apiserver",
            probe=(layout.node_ip, names.API_PORT),
            ready_url=f"{layout.server}/readyz",
            argv=program("kube-apiserver", *_apiserver(layout)),
        ),
        Component(
            name="kube-controller-manager",
            probe=("127.0.0.1", 10257),
            argv=program("kube-controller-manager", *_controller_manager(layout)),
        ),
        Component(
            name="kube-scheduler",
            probe=("127.0.0.1", 10259),
            argv=program(
                "kube-scheduler",
                f"--kubeconfig={layout.file('scheduler.kubeconfig')}",
                f"--authentication-kubeconfig={layout.file('scheduler.kubeconfig')}",
                f"--authorization-kubeconfig={layout.file('scheduler.kubeconfig')}",
                "--bind-address=127.0.0.1",
                "--leader-elect=false",
                "--profiling=false",
            ),
        ),
        Component(
            name="kubelet",
            probe=("127.0.0.1", 10248),
            argv=program(
                "kubelet",
                f"--config={layout.file('kubelet.yaml')}",
                f"--kubeconfig={layout.file('kubelet.kubeconfig')}",
                f"--root-dir={layout.file('kubelet')}",
                f"--cert-dir={pki}",
                f"--hostname-override={layout.name}",
                f"--node-ip={layout.node_ip}",
            ),
        ),
        Component(
            name="kube-proxy",
            probe=("127.0.0.1", 10256),
            argv=program("kube-proxy", f"--config={layout.file('kube-proxy.yaml')}"),
        ),
        Component(
            name="gateway",
            probe=None,
            on_host_network=True,
            argv=program("forward", f"-listen=127.0.0.1:{gateway_port}", f"-to={layout.node_ip}:{gateway_port}"),
        ),
        Component(
            name="coredns",
            probe=("127.0.0.1", 8181),
            needs_addons=True,
            argv=program("coredns", "-conf", str(layout.file("Corefile"))),
        ),
        Component(
            name="hostpath-provisioner",
            probe=None,
            needs_addons=True,
            argv=program(
                "hostpath-provisioner",
                f"-kubeconfig={layout.file('provisioner.kubeconfig')}",
                f"-root={layout.file('volumes')}",
            ),
        ),
        Component(
            name="metrics-server",
            probe=(layout.node_ip, names.METRICS_SERVER_PORT),
            needs_addons=True,
            argv=program("metrics-server", *_metrics_server(layout)),
        ),
        *(_gpus(layout, gpus) if gpus else ()),
    )


def _gpus(layout: Layout, gpus: Gpus) -> tuple[Component, ...]:
    arguments = (layout.server, layout.name, str(layout.file("pki")), str(gpus.count), gpus.accelerator)
    argv = (sys.executable, "-m", "tools.cluster.gpus", *arguments)
    return (Component(name="gpus", probe=None, needs_addons=True, argv=argv),)


def _etcd(layout: Layout) -> tuple[str, ...]:
    pki = layout.file("pki")
    client, peer = "https://127.0.0.1:2379", "https://127.0.0.1:2380"
    tls = (
        f"cert-file={pki}/etcd.crt",
        f"key-file={pki}/etcd.key",
        f"trusted-ca-file={pki}/ca.crt",
        "client-cert-auth=true",
    )
    return (
        f"--name={layout.name}",
        f"--data-dir={layout.file('etcd')}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster={layout.name}={peer}",
        *(f"--{flag}" for flag in tls),
        *(f"--peer-{flag}" for flag in tls),
        "--auto-compaction-retention=1h",
        "--log-level=warn",
    )


def _apiserver(layout: Layout) -> tuple[str, ...]:
    pki = layout.file("pki")
    return (
        f"--advertise-address={layout.node_ip}",
        f"--bind-address={layout.node_ip}",
        f"--secure-port={names.API_PORT}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        "--etcd-servers=https://127.0.0.1:2379",
        f"--etcd-cafile={pki}/ca.crt",
        f"--etcd-certfile={pki}/etcd-client.crt",
        f"--etcd-keyfile={pki}/etcd-client.key",
        f"--encryption-provider-config={layout.file('encryption.yaml')}",
        "--anonymous-auth=false",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--service-cluster-ip-range={names.SERVICE_CIDR}",
        f"--service-node-port-range={names.NODE_PORTS}",
        f"--service-account-issuer=https://kubernetes.default.svc.{names.DNS_DOMAIN}",
        f"--service-account-key-file={pki}/service-account.pub",
        f"--service-account-signing-key-file={pki}/service-account.key",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
        f"--requestheader-client-ca-file={pki}/front-proxy/ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy/client.crt",
        f"--proxy-client-key-file={pki}/front-proxy/client.key",
        "--enable-aggregator-routing=true",
        "--profiling=false",
    )


def _controller_manager(layout: Layout) -> tuple[str, ...]:
    pki = layout.file("pki")
    kubeconfig = layout.file("controller-manager.kubeconfig")
    return (
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--cluster-cidr={names.POD_CIDR}",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        f"--root-ca-file={pki}/ca.crt",
        f"--service-account-private-key-file={pki}/service-account.key",
        f"--service-cluster-ip-range={names.SERVICE_CIDR}",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--profiling=false",
        # Pods move off a lost node soon enough to watch; the node is the machine itself.
        "--node-monitor-grace-period=40s",
        # The scale subresource follows its metrics as fast as they are collected.
        "--horizontal-pod-autoscaler-sync-period=5s",
    )


def _metrics_server(layout: Layout) -> tuple[str, ...]:
    pki = layout.file("pki")
    kubeconfig = layout.file("metrics-server.kubeconfig")
    return (
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={layout.node_ip}",
        f"--secure-port={names.METRICS_SERVER_PORT}",
        f"--tls-cert-file={pki}/metrics-server-serving.crt",
        f"--tls-private-key-file={pki}/metrics-server-serving.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
        "--metric-resolution=15s",
    )
