"""Up, down and status of an embedded cluster."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import string
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.config.accelerators import WHOLE
from tools import paths
from tools.archive import scratch_image
from tools.cluster import cgroups, configuration, containerd, launch, preflight
from tools.cluster import layout as names
from tools.cluster.layout import Layout
from tools.cluster.settings import Settings
from tools.steps import StepError, Steps
from tools.toolchain.build import binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tools.cluster.gpus import Gpus

START_SECONDS = 120.0
"""A cold start takes 15 s on two idle cores; this is for a machine that is busy."""


def load(name: str) -> Layout:
    """The layout of a cluster that exists; `StepError` where none does."""
    settings = paths.clusters() / name / "cluster.json"
    if not settings.exists():
        raise StepError(
            f"cluster {name}: there is none → `slipway cluster status` lists none by that name → `slipway cluster up`"
        )
    return Layout(name, Settings.read(settings).index)


def up(name: str, gateway_port: int, steps: Steps, gpus: Gpus | None = None) -> Layout:
    """Start the cluster, or what is missing of it, and return when its node is Ready.

    Without `gpus` it keeps those that it has.

    1. a cluster that runs is only checked
    2. what a crash left is removed: processes, cgroup, network device; files stay, they hold the cluster's state
    3. certificates and configuration are written
    4. the supervisor starts in namespaces of its own and gets its link to the host
    5. add-ons are applied, the pause image loaded, the node awaited
    """
    with _lock() as lock:
        layout = _claim(name, gateway_port, gpus)
        if not _alive(layout):
            with steps.step(f"cluster {name}: start", estimate=15):
                preflight.check(gateway_port)
                _clean(layout, lock)
                configuration.render(layout)
                _launch(layout, gateway_port, lock)
        with steps.step(f"cluster {name}: ready", estimate=10):
            _await(layout, "the API server", _api_ready)
            _apply_addons(layout)
            _load_pause(layout)
            _await(layout, "the node", _node_ready)
            _await(layout, "its programs", _all_running)
            _await(layout, "the default service account", _admits_pods)
            _await(layout, "metrics", _metrics_available)
            if Settings.read(layout.file("cluster.json")).gpus:
                _await(layout, "GPUs", _gpus_allocatable)
    return layout


def is_running(name: str) -> bool:
    """Whether the cluster's supervisor runs; no word on whether its node is ready."""
    settings = paths.clusters() / name / "cluster.json"
    return settings.exists() and _alive(load(name))


def down(name: str) -> bool:
    """End the cluster and remove everything of it. True where there was something to remove."""
    with _lock() as lock:
        state = paths.clusters() / name
        layout = load(name) if (state / "cluster.json").exists() else Layout(name)
        existed = state.exists() or bool(cgroups.processes(layout.cgroup))
        _clean(layout, lock)
        mounted = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {state}/" in line]
        if mounted:
            raise StepError(
                f"{state}: has mounts on the host → removing it could remove what is mounted → `umount` these first:\n"
                + "\n".join(mounted)
            )
        if state.exists():
            shutil.rmtree(state)
    with contextlib.suppress(OSError):  # another cluster's state is beside it
        paths.clusters().rmdir()
    return existed


def status(name: str) -> dict[str, Any]:
    """What `slipway cluster status` shows: whether it runs, whether it is ready, and each component."""
    layout = load(name)
    running = _alive(layout)
    components = _component_status(layout) if running else {}
    host_pids = _host_pids(layout) if running else {}
    for component, entry in components.items():
        entry["pid"] = host_pids.get(component)
    settings = Settings.read(layout.file("cluster.json"))
    return {
        "name": name,
        "running": running,
        "ready": running and _node_ready(layout) and all(entry["state"] == "running" for entry in components.values()),
        "server": layout.server,
        "gateway": f"http://127.0.0.1:{settings.gateway_port}",
        "gpus": settings.gpus and asdict(settings.gpus),
        "kubeconfig": str(layout.kubeconfig),
        "state": str(layout.state),
        "components": components,
    }


def kubectl(layout: Layout, *arguments: str, stdin: str | None = None, timeout: float = 30.0) -> str:
    """Run kubectl as the cluster's administrator and return its output; `StepError` with its words on failure."""
    argv = [
        str(binary("kubectl")),
        f"--kubeconfig={layout.kubeconfig}",
        f"--request-timeout={timeout:.0f}s",
        *arguments,
    ]
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=timeout + 10)
    if done.returncode != 0:
        raise StepError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def _lock() -> Iterator[int]:
    """One command at a time on all clusters of this machine; the lock is on the directory and leaves no file.

    Yields the descriptor that holds it: a child that has it too holds the lock after this process was killed.
    """
    if os.geteuid() != 0:
        preflight.check(0)
    paths.clusters().mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(paths.clusters(), os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _claim(name: str, gateway_port: int, gpus: Gpus | None) -> Layout:
    """The layout of the cluster, with an index no other cluster of this machine has."""
    Layout(name)
    settings = paths.clusters() / name / "cluster.json"
    if settings.exists():
        known = Settings.read(settings)
        layout = Layout(name, known.index)
        gpus = gpus or known.gpus
        if _alive(layout):
            _refuse_change(name, known, gateway_port, gpus)
    else:
        others = paths.clusters().glob("*/cluster.json")
        taken = {Settings.read(path).index for path in others}
        free = [index for index in range(names.MAXIMUM_CLUSTERS) if index not in taken]
        if not free:
            raise StepError(
                f"cluster {name}: {len(taken)} clusters exist → at most {names.MAXIMUM_CLUSTERS} → take one down"
            )
        layout = Layout(name, free[0])
        layout.state.mkdir(mode=0o700, exist_ok=True)
    Settings(index=layout.index, gateway_port=gateway_port, gpus=gpus).write(settings)
    return layout


def _refuse_change(name: str, known: Settings, gateway_port: int, gpus: Gpus | None) -> None:
    for what, has, wanted in (("gateway port", known.gateway_port, gateway_port), ("GPUs", known.gpus, gpus)):
        if has != wanted:
            raise StepError(
                f"{what} {wanted}: cluster {name} runs with {has or 'none'} → a running cluster keeps what it was "
                f"started with → `slipway cluster down --name {name}` first, or ask for the same"
            )


def _alive(layout: Layout) -> bool:
    return _init(layout) is not None


def _init(layout: Layout) -> int | None:
    """Process id of the supervisor, where that very process still runs."""
    try:
        record = json.loads(layout.file("init.json").read_text())
        return record["pid"] if launch.identity(record["pid"]) == record else None
    except (FileNotFoundError, ProcessLookupError, json.JSONDecodeError):
        return None


def _clean(layout: Layout, lock: int) -> None:
    if (pid := _init(layout)) is not None:
        handle = os.pidfd_open(pid)
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        # The first process of a pid namespace ends only after every other one has.
        select.select([handle], [], [], cgroups.REMOVAL_SECONDS)
        os.close(handle)
    cgroups.remove(layout.cgroup)
    device = Path("/sys/class/net", layout.host_device)
    try:
        if device.exists():
            _ip(lock, "link", "delete", layout.host_device)
    except StepError:
        # The kernel removes it too, some time after the last process of the cluster's network namespace.
        if device.exists():
            raise
    for name in ("init.json", "status.json", "containerd.sock", "containerd.sock.ttrpc"):
        layout.file(name).unlink(missing_ok=True)


def _launch(layout: Layout, gateway_port: int, lock: int) -> None:
    bin_directory = binary("kubelet").parent
    layout.file("logs").mkdir(exist_ok=True)
    waiting, ready = os.pipe()
    try:
        with layout.file("logs", "launch.log").open("wb") as log:
            done = subprocess.run(
                [
                    sys.executable, "-m", "tools.cluster.launch",
                    layout.name, str(layout.index), str(gateway_port), str(bin_directory), str(waiting), str(lock),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(waiting, lock), start_new_session=True,
                cwd=paths.PROJECT, check=False,
            )  # fmt: skip
        pid = _init(layout)
        if done.returncode != 0 or pid is None:
            raise StepError(
                f"cluster {layout.name}: its first process did not "
                f"start\n{layout.file('logs', 'launch.log').read_text()}"
                "→ it needs namespaces and cgroups of its own → on a container, start that one privileged"
            )
        _ip(lock, "link", "add", layout.host_device, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _ip(lock, "address", "add", f"{layout.host_ip}/30", "dev", layout.host_device)
        _ip(lock, "link", "set", layout.host_device, "up")
        os.write(ready, b"\n")
    finally:
        # Without a byte, the end of the pipe is the supervisor's signal to end: this process failed or was killed.
        os.close(ready)
        os.close(waiting)


def _ip(lock: int, *arguments: str) -> None:
    # It has the lock too: what it changes is done before the next command looks, also when this process is killed.
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, pass_fds=(lock,))
    if done.returncode != 0:
        raise StepError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _await(layout: Layout, what: str, condition: Callable[[Layout], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition(layout):
        if not _alive(layout):
            log = layout.file("logs", "supervisor.log")
            raise StepError(
                f"cluster {layout.name}: its supervisor ended → "
                f"{log.read_text() if log.exists() else 'it was killed'} → `slipway cluster up` starts it again"
            )
        if time.monotonic() > deadline:
            raise StepError(_explain(layout, what))
        time.sleep(0.2)


def _explain(layout: Layout, what: str) -> str:
    waiting = [name for name, entry in _component_status(layout).items() if entry["state"] != "running"]
    tails = []
    for name in waiting[:1]:
        log = layout.file("logs", f"{name}.log")
        if log.exists():
            tails = [f"{log}:", *log.read_text(errors="replace").splitlines()[-8:]]
    return "\n".join(
        [
            f"cluster {layout.name}: {what} did not get ready in {START_SECONDS:.0f} s → "
            f"not running: {waiting or 'none'}",
            *tails,
            f"→ `slipway cluster logs`, then `slipway cluster up` again or `slipway cluster down --name {layout.name}`",
        ]
    )


def _component_status(layout: Layout) -> dict[str, dict[str, Any]]:
    try:
        found: dict[str, dict[str, Any]] = json.loads(layout.file("status.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def _host_pids(layout: Layout) -> dict[str, int]:
    """Component → process id as the host sees it, from the command lines in the cluster's cgroup."""
    found = {}
    for pid in cgroups.processes(layout.cgroup):
        with contextlib.suppress(OSError):
            argv0 = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]
            found["gateway" if Path(argv0).name == "forward" else Path(argv0).name] = pid
    return found


def _all_running(layout: Layout) -> bool:
    components = _component_status(layout)
    return bool(components) and all(entry["state"] == "running" for entry in components.values())


def _api_ready(layout: Layout) -> bool:
    try:
        return kubectl(layout, "get", "--raw=/readyz", timeout=5) == "ok"
    except (StepError, subprocess.TimeoutExpired):
        return False


def _node_ready(layout: Layout) -> bool:
    return _condition(layout, "node", layout.name, "Ready")


def _admits_pods(layout: Layout) -> bool:
    """Whether the controller manager has made the account that pods run as where they name none."""
    try:
        return bool(kubectl(layout, "get", "serviceaccount", "default", "-o", "name", timeout=5))
    except (StepError, subprocess.TimeoutExpired):
        return False


def _metrics_available(layout: Layout) -> bool:
    return _condition(layout, "apiservice", "v1beta1.metrics.k8s.io", "Available")


def _gpus_allocatable(layout: Layout) -> bool:
    gpus = Settings.read(layout.file("cluster.json")).gpus
    query = f"jsonpath={{.status.allocatable.{WHOLE.replace('.', chr(92) + '.')}}}"
    try:
        found = kubectl(layout, "get", "node", layout.name, "-o", query, timeout=5)
    except (StepError, subprocess.TimeoutExpired):
        return False
    return gpus is not None and found == str(gpus.count)


def _condition(layout: Layout, kind: str, name: str, condition: str) -> bool:
    query = f'jsonpath={{.status.conditions[?(@.type=="{condition}")].status}}'
    try:
        return kubectl(layout, "get", kind, name, "-o", query, timeout=5) == "True"
    except (StepError, subprocess.TimeoutExpired):
        return False


def _apply_addons(layout: Layout) -> None:
    template = string.Template(Path(__file__).with_name("addons.yaml").read_text())
    manifest = template.substitute(
        node_ip=layout.node_ip,
        dns_service_ip=names.DNS_SERVICE_IP,
        metrics_server_port=names.METRICS_SERVER_PORT,
        storage_provisioner=names.STORAGE_PROVISIONER,
        ca_bundle=base64.b64encode(layout.file("pki", "ca.crt").read_bytes()).decode(),
    )
    kubectl(layout, "apply", "--server-side", "--field-manager=slipway-cluster", "-f", "-", stdin=manifest)
    layout.addons_applied.touch()


def _load_pause(layout: Layout) -> None:
    archive = layout.file("pause.tar")
    if not archive.exists():
        scratch_image(archive, names.PAUSE_IMAGE, binary("pause"))
    containerd.load_image(layout, archive)
