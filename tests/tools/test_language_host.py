"""The language host's own life; what it does for the engine is shown by the tests with the engine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tools.toolchain.build import LANGUAGE_HOST


def test_the_host_ends_with_an_engine_that_is_killed():
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = '"$0" 127.0.0.1:9 & echo $!; wait'
    command = ["sh", "-c", script, str(LANGUAGE_HOST)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PATH": path}) as engine:
        host = int(engine.stdout.readline())
        assert int(engine.stdout.readline()) > 0, "it serves: this is its port"
        engine.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while runs(host):
        assert time.monotonic() < deadline, "the host outlives its engine"
        time.sleep(0.05)


def runs(pid):
    """Whether a process has not ended; who adopted it may not have noticed yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
