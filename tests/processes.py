"""Processes of a test's own: what they said, and where they listen."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

START_SECONDS = 120
"""Bound for a process to answer on a machine that is busy; on an idle one it takes five."""


def free_port() -> int:
    """A port of the loopback interface that nobody has."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


class Process:
    """A child process with its output in files; the test that waits for it fails with what it said."""

    def __init__(self, command, directory: Path, environment):
        directory.mkdir(parents=True, exist_ok=True)
        self.stdout, self.stderr = directory / "stdout", directory / "stderr"
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self._child = subprocess.Popen(
                command, stdout=out, stderr=err, cwd=directory, env=environment, start_new_session=True
            )

    def wait(self, seconds: float = START_SECONDS) -> int:
        return self._child.wait(seconds)

    def signal(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def stop(self) -> int:
        if self._child.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            return self.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self._child.pid, signal.SIGKILL)
            return self.wait()

    def until(self, condition, what: str):
        """Poll until `condition` gives something; fail when the process ends or the time is up."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if (found := condition()) is not None:
                return found
            if self._child.poll() is not None:
                break
            time.sleep(0.05)
        pytest.fail(f"{what}: exit code {self._child.poll()}\n{self.stdout.read_text()}\n{self.stderr.read_text()}")
