"""kubectl on the cluster of an environment."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from typing import TYPE_CHECKING

from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Kubectl:
    """Its commands on one cluster, and in one namespace where it is named. Errors are `StepError`, in its words."""

    def __init__(self, variables: Mapping[str, str], namespace: str | None = None) -> None:
        self._variables = variables
        self._options = [] if namespace is None else [f"--namespace={namespace}"]

    def argv(self, *arguments: str) -> list[str]:
        """A command line that needs no variables."""
        program = shutil.which("kubectl", path=self._variables["PATH"])
        if program is None:
            raise StepError("kubectl: not on PATH → the cluster is asked by it → `slipway toolchain build`")
        return [program, f"--kubeconfig={self._variables['KUBECONFIG']}", *self._options, *arguments]

    def ask(self, *arguments: str, given: str | None = None, seconds: float | None = None) -> str:
        """What a command prints. `given` is its input, `seconds` how long it may take."""
        argv = self.argv(*arguments)
        try:
            done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise StepError(f"`kubectl {arguments[0]}`: no answer in {seconds:.0f} s → `slipway up`") from error
        if done.returncode != 0:
            raise StepError(
                f"`kubectl {arguments[0]}`: {done.stderr.strip()} → the cluster has to answer → `slipway up`"
            )
        return done.stdout

    @contextlib.contextmanager
    def forwarded(self, service: str, port: int) -> Iterator[str]:
        """Address of this machine that leads to a Service until the block ends."""
        command = self.argv("port-forward", f"service/{service}", f":{port}")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
            try:
                said = forward.stdout.readline() if forward.stdout else ""
                if not said:
                    raise StepError(f"service {service}: no way there → kubectl said why above → `slipway up`")
                yield f"http://{said.removeprefix('Forwarding from ').partition(' ')[0]}"
            finally:
                forward.terminate()
