from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tools import paths
from tools.cluster import cgroups, lifecycle
from tools.cluster.layout import Layout
from tools.steps import Steps

_numbers = itertools.count()


def free_port() -> int:
    """A port below the ephemeral range, as a NodePort has to be."""
    for port in range(18080, 18180):
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a hundred ports in a row are taken")


class Cluster:
    """A cluster of a test's own."""

    def __init__(self) -> None:
        self.name = f"test-{os.getpid()}-{next(_numbers)}"
        self.port = free_port()

    @property
    def layout(self) -> Layout:
        return lifecycle.load(self.name)

    def up(self) -> Layout:
        return lifecycle.up(self.name, self.port, Steps())

    def down(self) -> bool:
        return lifecycle.down(self.name)

    def status(self) -> dict:
        return lifecycle.status(self.name)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return lifecycle.kubectl(self.layout, *arguments, stdin=stdin)

    def pids(self) -> dict[str, int]:
        return {name: entry["pid"] for name, entry in self.status()["components"].items()}

    def supervisor(self) -> int:
        record = json.loads(Layout(self.name).file("init.json").read_text())
        return int(record["pid"])

    def kill_supervisor(self) -> None:
        """As a crash or a reboot would: at once, and then it is gone."""
        handle = os.pidfd_open(self.supervisor())
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        assert select.select([handle], [], [], 30)[0], "the supervisor did not end within 30 s of SIGKILL"
        os.close(handle)


def machine(name: str) -> dict[str, object]:
    """What a cluster could leave on its machine."""
    layout = Layout(name)

    def output(*argv: str) -> list[str]:
        text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        return [line for line in text.splitlines() if not line.startswith("#")]

    def mounts() -> list[str]:
        return sorted(" ".join(line.split()[3:5]) for line in Path("/proc/self/mountinfo").read_text().splitlines())

    return {
        "mounts": mounts(),
        "network devices": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "routes": output("ip", "route"),
        "packet filter rules": [rule.partition("[")[0] for rule in output("iptables-save")],
        "cgroups": sorted(str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{layout.cgroup}")),
        "processes": sorted(cgroups.processes(layout.cgroup)),
        "state": layout.state.exists(),
        "kernel settings": [
            Path("/proc/sys", setting).read_text()
            for setting in ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward")
        ],
        "files in fixed places": [
            Path(place).exists()
            for place in ("/var/lib/kubelet", "/var/log/pods", "/var/lib/cni/networks", "/etc/cni/net.d")
        ],
    }


@pytest.fixture
def cluster(toolchain_bin):
    """A cluster that is not there yet; what the test leaves of it is removed."""
    made = Cluster()
    yield made
    made.down()


@pytest.fixture(scope="module")
def running_cluster(toolchain_bin):
    """One cluster for tests that leave it as they found it."""
    made = Cluster()
    made.up()
    yield made
    made.down()
    assert not (paths.clusters() / made.name).exists()
