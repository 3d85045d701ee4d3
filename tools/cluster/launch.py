"""Starts a cluster's supervisor as the first process of namespaces of its own.

A cluster is a container: with its first process the kernel ends every other, and with the
last one go its mounts, network devices and packet filter rules. Nothing can be left over.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

from tools import paths
from tools.cluster import cgroups, supervisor
from tools.cluster.layout import Layout

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000


def identity(pid: int) -> dict[str, int | str]:
    """What tells this process from a later one with the same id: its start and the machine's boot."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if fields[0] == "Z":
        raise ProcessLookupError(f"process {pid} has ended")
    return {"pid": pid, "start": int(fields[19]), "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}


def main() -> None:
    """Start the cluster: `python -m tools.cluster.launch NAME INDEX GATEWAY_PORT BIN LINK_FD LOCK_FD`.

    LOCK_FD holds the lock on all clusters until the first process has its link or ends, whatever becomes of the command
    that started it: the next one never meets a half-started cluster.

    1. join the cluster's cgroup, which the first process and all others inherit
    2. leave the host's namespaces, keeping a handle on its network for the gateway's port
    3. fork the first process; it waits until the link to the host is there (a byte on LINK_FD)
    4. record its identity, by which `down` and `status` know it, and end
    """
    name, index, gateway_port, bin_directory, link, lock = sys.argv[1:]
    layout = Layout(name, int(index))
    cgroups.join(layout.cgroup)
    host_network = os.open("/proc/self/ns/net", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare: namespaces refused")
    pid = os.fork()
    if pid == 0:
        linked = os.read(int(link), 1)
        if not linked:  # whoever made the link failed or was killed
            os._exit(1)
        os.close(int(lock))
        supervisor.run(layout, Path(bin_directory), int(gateway_port), host_network)
    paths.write_whole(layout.file("init.json"), json.dumps(identity(pid)).encode())


if __name__ == "__main__":
    main()
