"""The first process of a cluster: starts its components in order, restarts what dies, says how they are."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import traceback
import urllib.request
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tools import paths
from tools.cluster.components import Component, components
from tools.cluster.layout import CNI_BIN, CNI_CONF, CNI_PLUGINS
from tools.cluster.settings import Settings

if TYPE_CHECKING:
    from tools.cluster.layout import Layout

CLONE_NEWNET = 0x40000000

RESTART_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Wait before the first, second, … restart in a row."""

STEADY_SECONDS = 60.0
"""A component that ran this long has recovered: its next restart is a first one."""

TICK_SECONDS = 0.2
PROBE_SECONDS = 1.0
LOG_LIMIT_BYTES = 64 * 1024 * 1024
"""A component's log is started anew, keeping one older, when a restart finds it this long."""


@dataclass
class Status:
    """How one component is, as `status.json` says it."""

    state: str = "waiting"
    """`waiting`, `starting`, `running` or `restarting`."""
    restarts: int = 0
    last_exit: str | None = None


@dataclass
class Child:
    """A component and its process, where it has one."""

    component: Component
    status: Status = field(default_factory=Status)
    pid: int | None = None
    started: float = 0.0
    due: float = 0.0
    attempts: int = 0


def run(layout: Layout, bin_directory: Path, gateway_port: int, host_network: int) -> NoReturn:
    """Prepare the namespaces, then supervise until killed. Never returns: the cluster ends with this process."""
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os._exit(0))
        settings = Settings.read(layout.file("cluster.json"))
        _prepare_mounts(layout)
        _prepare_network(layout)
        children = [Child(component) for component in components(layout, bin_directory, gateway_port, settings.gpus)]
        _supervise(layout, children, host_network)
    except BaseException:  # noqa: BLE001 the first process of a pid namespace has nobody to raise to
        layout.file("logs").mkdir(exist_ok=True)
        layout.file("logs", "supervisor.log").write_text(traceback.format_exc())
        os._exit(1)


def _supervise(layout: Layout, children: list[Child], host_network: int) -> NoReturn:
    written = ""
    while True:
        _reap(children)
        now = time.monotonic()
        for child in children:
            if child.component.needs_addons and not layout.addons_applied.exists():
                break
            if child.pid is None:
                if now >= child.due:
                    _start(layout, child, host_network)
            elif child.status.state != "running" and _answers(layout, child.component):
                child.status.state = "running"
            if child.status.state != "running":
                break  # the ones after it need it
            if child.attempts and now - child.started > STEADY_SECONDS:
                child.attempts = 0
        status = json.dumps({child.component.name: asdict(child.status) for child in children}, indent=1)
        if status != written:
            paths.write_whole(layout.file("status.json"), status.encode())
            written = status
        signal.sigtimedwait({signal.SIGCHLD}, TICK_SECONDS)


def _reap(children: list[Child]) -> None:
    """Collect every process that ended, orphans of pods among them."""
    while True:
        try:
            pid, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        for child in children:
            if child.pid == pid:
                delay = RESTART_SECONDS[min(child.attempts, len(RESTART_SECONDS) - 1)]
                child.pid, child.due = None, time.monotonic() + delay
                child.attempts += 1
                child.status.restarts += 1
                child.status.state = "restarting"
                exit_code = os.waitstatus_to_exitcode(code)
                child.status.last_exit = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"


def _start(layout: Layout, child: Child, host_network: int) -> None:
    component = child.component
    log = layout.file("logs", f"{component.name}.log")
    log.parent.mkdir(exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    pid = os.fork()
    if pid == 0:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, set())
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.setsid()
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            if component.on_host_network and ctypes.CDLL(None).setns(host_network, CLONE_NEWNET) != 0:
                os._exit(126)
            os.closerange(3, 4096)
            os.execvp(component.argv[0], component.argv)  # noqa: S606 no shell is the point
        except BaseException:  # noqa: BLE001 this is the child: it must not run the parent's code
            traceback.print_exc()
            os._exit(127)
    child.pid, child.started = pid, time.monotonic()
    child.status.state = "starting"


def _answers(layout: Layout, component: Component) -> bool:
    probe = component.probe
    if probe is None:
        return True
    family, address = (socket.AF_UNIX, str(probe)) if isinstance(probe, Path) else (socket.AF_INET, probe)
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(PROBE_SECONDS)
        try:
            connection.connect(address)
        except OSError:
            return False
    return component.ready_url is None or _serves(layout, component.ready_url)


def _serves(layout: Layout, url: str) -> bool:
    pki = layout.file("pki")
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    try:
        with urllib.request.urlopen(url, timeout=PROBE_SECONDS, context=context) as answer:  # noqa: S310 our own URL
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


def _prepare_mounts(layout: Layout) -> None:
    """Private mounts: `/proc` of this pid namespace, and the fixed paths that components write to."""
    _command("mount", "--make-rprivate", "/")
    _command("mount", "-t", "proc", "-o", "nosuid,nodev,noexec", "proc", "/proc")
    _command("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for target in ("/var/log", "/var/lib/cni"):
        source = layout.file("host", target.lstrip("/"))
        source.mkdir(parents=True, exist_ok=True)
        Path(target).mkdir(parents=True, exist_ok=True)
        _command("mount", "--bind", str(source), target)
    _mount_plugins(layout)
    tunables = layout.file("tunables")
    for path in tunables.rglob("*"):
        if path.is_file():
            _command("mount", "--bind", str(path), f"/proc/sys/{path.relative_to(tunables)}")
    # The kubelet shares the volumes it mounts with the containers that use them.
    _command("mount", "--make-rshared", "/")


def _mount_plugins(layout: Layout) -> None:
    """Network plugins and their configuration, as directories that pods may add to."""
    added, work, conf = (layout.file("cni", part) for part in ("bin", "work", "conf"))
    for directory in (added, work, Path(CNI_BIN), Path(CNI_CONF)):
        directory.mkdir(parents=True, exist_ok=True)
    layers = f"lowerdir={CNI_PLUGINS},upperdir={added},workdir={work}"
    _command("mount", "-t", "overlay", "-o", layers, "overlay", CNI_BIN)
    _command("mount", "--bind", str(conf), CNI_CONF)


def _prepare_network(layout: Layout) -> None:
    _command("ip", "link", "set", "lo", "up")
    _command("ip", "address", "add", f"{layout.node_ip}/30", "dev", "eth0")
    _command("ip", "link", "set", "eth0", "up")
    # A way out for every address: the kernel looks for a route before it rewrites a service's address.
    _command("ip", "route", "add", "default", "via", layout.host_ip)
    for name in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        Path("/proc/sys", name).write_text("1")


def _command(*argv: str) -> None:
    try:
        subprocess.run(argv, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(argv)}: {error.stderr.strip()}", file=sys.stderr)
        raise
