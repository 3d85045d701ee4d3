"""A real broker on this machine's loopback, for tests, benchmarks and chaos: one KRaft node, nothing stubbed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Self

from tools.kafka.jars import jars
from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CLUSTER_ID = "bG9vcGJhY2stYnJva2VyMQ"
"""Sixteen bytes in base64. One drawn by chance may begin with a hyphen, which Kafka takes for an option."""

HEAP = "400m"
START_SECONDS = 90
"""On an idle machine five; a recovery after a kill reads its logs again."""
STOP_SECONDS = 30

QUICK: Mapping[str, str] = {
    # One node holds every replica.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "auto.create.topics.enable": "false",
    # Tests form groups all the time: nobody waits for members that may still come, dead ones are missed soon.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "log.retention.hours": "-1",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.enable": "false",
}
"""Properties beyond those that make it a node; a caller's own come after them."""


class Broker:
    """A broker in a directory: its data outlives kills and restarts, its ports stay the same."""

    def __init__(self, directory: Path, properties: Mapping[str, str] | None = None) -> None:
        """In `properties`, which win, `{port}`, `{controller}` and `{internal}` stand for free ports."""
        self._directory = directory
        self._log = directory / "broker.log"
        port, controller, internal = _free_ports(3)
        self.bootstrap = f"127.0.0.1:{port}"
        self._port = port
        self._child: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "listeners": f"CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "CLIENTS",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(directory / "data"),
            **QUICK,
            **(properties or {}),
        }
        self._file = directory / "server.properties"
        text = "".join(f"{key}={value}\n" for key, value in lines.items())
        for name, number in (("port", port), ("controller", controller), ("internal", internal)):
            text = text.replace(f"{{{name}}}", str(number))
        self._file.write_text(text)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Of the running process."""
        if self._child is None:
            raise StepError("the broker does not run → it is started first → call start()")
        return self._child.pid

    def start(self) -> None:
        """Format the storage where that was not done, start, and wait until clients are answered."""
        formatting = ["kafka.tools.StorageTool", "format", "--standalone", "--ignore-formatted"]
        if not (self._directory / "data" / "meta.properties").exists():
            self._java("128m", [*formatting, "-t", CLUSTER_ID, "-c", str(self._file)]).wait(START_SECONDS)
        self._child = self._java(HEAP, ["kafka.Kafka", str(self._file)])
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise StepError(f"the broker did not start → see {self._log}:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it in order; nothing to do where it does not run."""
        if self._child is None or self._child.poll() is not None:
            return
        self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, as the kernel's out-of-memory killer would."""
        if self._child is not None:
            self._child.send_signal(signal.SIGKILL)
            self._child.wait()

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return "Kafka Server started" in self._log.read_text(errors="replace").rpartition("starting (kafka")[2]

    def _java(self, heap: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        java = shutil.which("java")
        if java is None:
            raise StepError("java: not found on PATH → it runs the broker → `apt-get install openjdk-17-jre-headless`")
        options = [f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=4", f"-Djava.io.tmpdir={self._directory}"]
        command = [java, *options, "-Dorg.slf4j.simpleLogger.defaultLogLevel=info", "-cp", f"{jars()}/*", *arguments]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._directory, env={"PATH": os.environ["PATH"]},
                start_new_session=True,
            )  # fmt: skip


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
