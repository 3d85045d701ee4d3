"""Batch jobs as forks of one process that has imported everything: a job costs its work, not eight seconds of imports.

`python -m tests.services.batch_forks CACHE` takes a line of JSON for each command: `{"start": {variable: value}, "out":
path, "err": path}` answers the child's process id, `{"wait": pid}` its exit code, negative for a signal.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path

from services.inference import batch
from services.inference.batch_settings import prepare_prefect


def start(command: dict) -> int:
    child = os.fork()
    if child:
        return child
    # The child is as a process of its own would be: its variables, its output, signals as by default.
    os.environ.clear()
    os.environ.update(command["start"])
    for stream, target in ((sys.stdout, command["out"]), (sys.stderr, command["err"])):
        os.dup2(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    code = 1
    try:
        code = batch.main()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def main() -> None:
    prepare_prefect(Path(sys.argv[1]), None)
    # Imported, not run: none of them may have a thread when the process forks.
    for name in ("torch", "services.inference.adapters.batch.flow", "services.inference.adapters.batch.orchestration"):
        importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if "start" in command:
            print(start(command), flush=True)
        else:
            _, status = os.waitpid(command["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
