"""What the embedded cluster needs of a machine, checked before anything starts."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from tools import paths
from tools.steps import StepError

CAP_SYS_ADMIN = 21
CAP_NET_ADMIN = 12

DEBIAN_PACKAGES = {
    # program → the package that brings it
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "mount": "mount",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}

FILE_SYSTEMS = ("overlay", "proc", "tmpfs")

MINIMUM_MEMORY_BYTES = 6 * 1024**3
"""Control plane 0.7 GiB, platform 1.5 GiB, one model with torch 1 GiB, and room to roll it."""

MINIMUM_DISK_BYTES = 15 * 1024**3
"""Images unpacked (7 GiB), once more as archives, and the volumes."""


def missing_packages() -> list[str]:
    """Debian packages that bring the programs which are not on this machine."""
    return sorted({package for program, package in DEBIAN_PACKAGES.items() if not shutil.which(program)})


def check(gateway_port: int) -> None:
    """Raise one `StepError` that names everything this machine lacks, each with its remedy."""
    problems = [*_rights(), *_room(), *_port(gateway_port)]
    if absent := missing_packages():
        listed = " ".join(absent)
        problems.append(
            f"programs of {listed}: not found → the cluster runs on them → "
            f"`apt-get install --no-install-recommends {listed}` (`make up` does it)"
        )
    if problems:
        raise StepError("this machine cannot run the embedded cluster:\n- " + "\n- ".join(problems))


def _rights() -> list[str]:
    if os.geteuid() != 0:
        return [
            f"user id {os.geteuid()}: not root → namespaces, mounts and network devices need it → "
            "run as root, or use a cluster of your own: `slipway up --context NAME`"
        ]
    effective = next(
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapEff")
    )
    lacking = [
        name
        for name, bit in (("CAP_SYS_ADMIN", CAP_SYS_ADMIN), ("CAP_NET_ADMIN", CAP_NET_ADMIN))
        if not effective >> bit & 1
    ]
    if lacking:
        return [f"{', '.join(lacking)}: not held → as above → start the container with them, or use `--context NAME`"]
    known = Path("/proc/filesystems").read_text().split()
    return [
        f"file system {name}: not in this kernel → containers are made of it → `modprobe "
        f"{name}`, or use `--context NAME`"
        for name in FILE_SYSTEMS
        if name not in known
    ]


def _room() -> list[str]:
    problems = []
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if memory < MINIMUM_MEMORY_BYTES:
        problems.append(
            f"memory {memory / 1024**3:.1f} GiB: less than {MINIMUM_MEMORY_BYTES / 1024**3:.0f} GiB → "
            "the control plane and one model would not fit → use a larger machine, or `--context NAME`"
        )
    directory = paths.clusters()
    while not directory.exists():
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    if free < MINIMUM_DISK_BYTES:
        problems.append(
            f"{directory}: {free / 1024**3:.1f} GiB free, less than {MINIMUM_DISK_BYTES / 1024**3:.0f} GiB → "
            "images and volumes need it → free some, or name another disk in SLIPWAY_STATE"
        )
    return problems


def _port(port: int) -> list[str]:
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError as error:
            return [
                f"port {port} on 127.0.0.1: {error.strerror} → the gateway answers there → "
                f"end what uses it (`ss -ltnp 'sport = :{port}'`), or set slipway:platform.gatewayPort"
            ]
    return []
