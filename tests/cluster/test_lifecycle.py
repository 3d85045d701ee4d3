"""The embedded cluster through its life: started, used, broken, repaired, removed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.cluster.conftest import Cluster, machine
from tools import paths
from tools.cluster.layout import Layout
from tools.steps import StepError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


def eventually(condition, what: str, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.2)


def test_down_leaves_the_machine_as_up_found_it(cluster):
    before = machine(cluster.name)
    cluster.up()
    assert machine(cluster.name) != before, "the comparison has to see a running cluster, or it proves nothing"
    assert cluster.down(), "there was a cluster to remove"
    assert machine(cluster.name) == before
    assert not cluster.down(), "a second down finds nothing and says so"


def test_down_after_the_supervisor_was_killed_leaves_nothing_either(cluster):
    before = machine(cluster.name)
    cluster.up()
    cluster.kill_supervisor()
    cluster.down()
    assert machine(cluster.name) == before


def test_the_supervisors_death_ends_every_process_of_the_cluster(cluster):
    cluster.up()
    cluster.kill_supervisor()
    assert machine(cluster.name)["processes"] == [], "the kernel ends a pid namespace with its first process"
    assert not cluster.status()["running"]


def test_up_after_a_crash_brings_back_what_was_in_the_cluster(cluster):
    cluster.up()
    cluster.kubectl("create", "configmap", "kept", "--from-literal=key=value")
    cluster.kill_supervisor()
    cluster.up()
    assert cluster.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.key}") == "value"
    assert cluster.status()["ready"]


@pytest.mark.parametrize("reached", ["cluster.json", "pki/ca.crt", "init.json", "status.json"])
def test_up_goes_on_from_an_up_that_was_killed_half_way(cluster, reached):
    command = [sys.executable, "-m", "tools.cli.main", "cluster", "up"]
    half_way = subprocess.Popen(
        [*command, f"--name={cluster.name}", f"--gateway-port={cluster.port}"], cwd=paths.PROJECT
    )
    eventually(Layout(cluster.name).file(reached).exists, f"the first up reaches {reached}")
    half_way.kill()
    half_way.wait()
    cluster.up()
    assert cluster.status()["ready"]


def test_up_on_a_running_cluster_changes_nothing(running_cluster):
    before = running_cluster.pids()
    started = time.monotonic()
    running_cluster.up()
    assert running_cluster.pids() == before
    assert time.monotonic() - started < 30, "a no-op takes seconds"


@pytest.mark.parametrize(
    "component",
    ["etcd", "containerd", "kube-apiserver", "kubelet", "kube-proxy", "coredns", "gateway", "metrics-server"],
)
def test_a_killed_component_is_started_again_and_reported(running_cluster, component):
    pid = running_cluster.pids()[component]
    restarts = running_cluster.status()["components"][component]["restarts"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: running_cluster.pids().get(component) not in {pid, None}, f"{component} runs again")
    eventually(lambda: running_cluster.status()["ready"], "the cluster is ready again")
    entry = running_cluster.status()["components"][component]
    assert entry["restarts"] == restarts + 1
    assert entry["last_exit"] == "signal 9"


def test_two_clusters_live_side_by_side(running_cluster, cluster):
    cluster.up()
    assert cluster.status()["ready"]
    assert running_cluster.status()["ready"]
    cluster.kubectl("create", "namespace", "only-here")
    with pytest.raises(StepError, match="not found"):
        running_cluster.kubectl("get", "namespace", "only-here")


def test_a_taken_gateway_port_is_refused_before_anything_starts(cluster):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", cluster.port))
        holder.listen()
        with pytest.raises(StepError, match=rf"port {cluster.port} on 127\.0\.0\.1: Address already in use → "):
            cluster.up()
    assert machine(cluster.name)["processes"] == []


def test_another_gateway_port_for_a_running_cluster_is_refused(running_cluster):
    other = Cluster()
    other.name = running_cluster.name
    other.port = running_cluster.port + 1
    with pytest.raises(StepError, match=f"runs with {running_cluster.port}"):
        other.up()


def test_the_gateways_port_is_bound_to_loopback_only(running_cluster):
    # A listener on every address would keep this one from being taken.
    with socket.socket() as another_address:
        another_address.bind(("127.0.0.2", running_cluster.port))


@pytest.mark.parametrize("name", ["", "UPPER", "with/slash", "-dash", "x" * 33])
def test_a_name_that_is_no_label_is_refused(name):
    with pytest.raises(StepError, match="not a DNS label"):
        Layout(name)
