"""Names, addresses and files of an embedded cluster: pure functions of its name and index."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools import paths
from tools.steps import StepError

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_NAME = "local"
DEFAULT_GATEWAY_PORT = 8080

MAXIMUM_CLUSTERS = 64
"""Each cluster's link takes one /30 of `LINKS`; the index says which."""

LINKS = ipaddress.ip_network("198.18.0.0/24")
"""Links between the host and its clusters: of the range that no network routes (RFC 2544)."""

# Inside a cluster's own network namespace: the same in every cluster.
POD_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.96.0.0/16"
KUBERNETES_SERVICE_IP = "10.96.0.1"
DNS_SERVICE_IP = "10.96.0.10"
DNS_DOMAIN = "cluster.local"
API_PORT = 6443
KUBELET_PORT = 10250
METRICS_SERVER_PORT = 4443
NODE_PORTS = "1024-32767"
"""Wide enough for the gateway's port itself, below the ephemeral ports."""

CNI_PLUGINS = "/usr/lib/cni"
"""Where Debian's containernetworking-plugins are."""

CNI_BIN, CNI_CONF = "/run/cni/bin", "/run/cni/net.d"
"""Where the cluster sees them and their configuration: pods that add a plugin write to its state, not to Debian's."""

PAUSE_IMAGE = "slipway.local/pause:1"
STORAGE_PROVISIONER = "slipway.dev/hostpath"


@dataclass(frozen=True)
class Layout:
    """Where one cluster lives. `index` numbers the clusters of this machine."""

    name: str
    index: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", self.name):
            raise StepError(
                f"--name {self.name!r}: not a DNS label of at most 32 characters → it names a node and a directory → "
                "use lower-case letters, digits and dashes"
            )

    @property
    def state(self) -> Path:
        """The one directory that holds everything of the cluster."""
        return paths.clusters() / self.name

    def file(self, *parts: str) -> Path:
        """A path below the state directory."""
        return self.state.joinpath(*parts)

    @property
    def host_ip(self) -> str:
        """The host's end of the link."""
        return str(LINKS[self.index * 4 + 1])

    @property
    def node_ip(self) -> str:
        """The node's end of the link: what the node and its control plane listen on."""
        return str(LINKS[self.index * 4 + 2])

    @property
    def host_device(self) -> str:
        """Network device on the host, at most 15 characters."""
        return "slw-" + hashlib.sha256(self.name.encode()).hexdigest()[:8]

    @property
    def cgroup(self) -> str:
        """Every process of the cluster is in this cgroup or below it."""
        return f"slipway-{self.name}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.file("kubeconfig")

    @property
    def containerd_socket(self) -> Path:
        """Containerd's API."""
        return self.file("containerd.sock")

    @property
    def addons_applied(self) -> Path:
        """Exists once the add-ons are applied; the components whose rights they hold wait for it."""
        return self.file("addons-applied")

    @property
    def server(self) -> str:
        """URL of the API server, from the host and from pods."""
        return f"https://{self.node_ip}:{API_PORT}"
