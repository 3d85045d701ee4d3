from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.processes import parse_cores

ROOT = Path(__file__).resolve().parents[2]

LEAVES_AN_ORPHAN = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""

STARTS_AND_STOPS = """
import os, sys, time
from pathlib import Path
from bench.processes import Process, adopt_orphans, descendants
adopt_orphans()
with Process([sys.executable, "-c", sys.argv[1]], Path(sys.argv[2]), dict(os.environ)) as process:
    while not process.log.read_text().strip():
        time.sleep(0.02)
    orphan = int(process.log.read_text())
    assert orphan in process.all()
    os.kill(process.pid, 9)  # its child is an orphan now, in a session of its own
assert not descendants(os.getpid()), "something outlived its server"
print(orphan)
"""


def test_what_a_server_has_started_ends_with_it_also_in_a_session_of_its_own(tmp_path):
    # In a process of its own: adopting orphans is for good.
    command = [sys.executable, "-c", STARTS_AND_STOPS, LEAVES_AN_ORPHAN, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not Path(f"/proc/{int(done.stdout)}").exists()


def test_an_interrupted_bench_leaves_no_process(tmp_path):
    script = f"""
import os, signal, sys
from pathlib import Path
from bench.__main__ import _interrupt
from bench.processes import Process, adopt_orphans
signal.signal(signal.SIGTERM, _interrupt)
adopt_orphans()
try:
    with Process([sys.executable, "-c", "import time; time.sleep(60)"], Path({str(tmp_path)!r}), dict(os.environ)) as p:
        print(p.pid, flush=True)
        signal.pause()
except KeyboardInterrupt:
    sys.exit(130)
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as bench:
        child = int(bench.stdout.readline())
        bench.terminate()
        assert bench.wait(30) == 130
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.parametrize(("text", "cores"), [("0", (0,)), ("0-2", (0, 1, 2)), ("1,3-4", (1, 3, 4))])
def test_cores_are_read_as_taskset_reads_them(text, cores):
    assert parse_cores(text) == cores


def test_the_tests_can_see_processes():
    assert Path(f"/proc/{os.getpid()}/stat").exists(), "the bench and its tests need Linux"
