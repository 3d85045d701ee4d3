"""The process that a schedule starts for a batch job on Ray: one run, on a cluster of its own.

1. the model's RayJob is read, which is suspended: a run is its copy
2. of what an earlier pod of the same Job has left, a run under way is followed, one that has ended makes room
3. the copy is made, not suspended and owned by the Job, with which it goes
4. until it has ended, what the job prints is printed here; its exit code is this process's
5. told to stop, which the Job's deadline does, too, the process takes the RayJob away, and its cluster with it, and
   says how far that was

It knows Kubernetes and Ray by their HTTP alone, and nothing of the model: it may make RayJobs, which the pods of the
cluster may not.
"""

from __future__ import annotations

import shlex
import signal
import ssl
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import ValidationError

from services.contract import Env
from services.inference.adapters.batch.errors import EngineFailed
from services.inference.batch import STOPPED, WRONG_SETTING, end
from services.inference.batch_settings import LaunchSettings
from services.inference.core.document import first_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

API_SERVER = "https://kubernetes.default.svc"

IDENTITY = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Token, authority and namespace of the pod's own account. The token there is replaced before it expires."""

POLL_SECONDS = 2.0

TIMEOUT_SECONDS = 10.0

ENDED = frozenset({"Complete", "Failed", "ValidationFailed"})


@dataclass(frozen=True, slots=True)
class RayJobs:
    """RayJobs of a namespace. Errors are httpx's."""

    client: httpx.Client
    namespace: str

    def read(self, name: str) -> dict[str, Any] | None:
        """One by its name; None where there is none."""
        answer = self.client.get(f"{self._path}/{name}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def create(self, manifest: Mapping[str, Any]) -> None:
        """Make one."""
        self.client.post(self._path, json=manifest).raise_for_status()

    def delete(self, name: str) -> None:
        """Take one away; one that is not there is away."""
        answer = self.client.delete(f"{self._path}/{name}")
        if answer.status_code != httpx.codes.NOT_FOUND:
            answer.raise_for_status()

    @property
    def _path(self) -> str:
        return f"/apis/ray.io/v1/namespaces/{self.namespace}/rayjobs"


def run_of(template: Mapping[str, Any], settings: LaunchSettings) -> dict[str, Any]:
    """The RayJob of a run. Its job is told the Job's name, which says for which day it is."""
    spec = {key: value for key, value in template["spec"].items() if key != "suspend"}
    named = f"{Env.BATCH_JOB_NAME}={shlex.quote(settings.job_name)}"
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": settings.job_name,
        "uid": settings.job_uid,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": template["apiVersion"],
        "kind": template["kind"],
        "metadata": {
            "name": settings.job_name,
            "labels": template["metadata"].get("labels") or {},
            "ownerReferences": [owner],
        },
        "spec": {**spec, "entrypoint": f"{named} {spec['entrypoint']}"},
    }


def begin(jobs: RayJobs, settings: LaunchSettings, wait: Callable[[float], None]) -> None:
    """Steps 1 to 3."""
    template = jobs.read(settings.rayjob)
    if template is None:
        raise EngineFailed(f"RayJob {settings.rayjob}: not there", "a run is a copy of it", "`pulumi up` declares it")
    found = jobs.read(settings.job_name)
    if found is not None and _state(found) in ENDED:
        jobs.delete(settings.job_name)
        while jobs.read(settings.job_name) is not None:
            wait(POLL_SECONDS)
        found = None
    if found is None:
        jobs.create(run_of(template, settings))


def follow(jobs: RayJobs, ray: httpx.Client, name: str, wait: Callable[[float], None]) -> int:
    """Step 4; the result is the job's exit code. `EngineFailed` where the run ended without one."""
    printed, code = "", None
    while True:
        run = jobs.read(name)
        if run is None:
            raise EngineFailed(f"RayJob {name}: gone", "it goes with its Job", "see who has deleted it; run it again")
        status = run.get("status") or {}
        told = _told(ray, status)
        if told is not None:
            logs, code = told
            # A job that began again on another head tells from its start.
            sys.stdout.write(logs.removeprefix(printed))
            sys.stdout.flush()
            printed = logs
        if status.get("jobStatus") == "SUCCEEDED" and _state(run) in ENDED:
            return 0
        if _state(run) in ENDED:
            if code:
                return code
            reason = f"{_state(run)}, {status.get('reason') or 'no reason'}: {status.get('message') or ''}"
            raise EngineFailed(
                f"RayJob {name}: {' '.join(reason.split())[:500]}",
                "its cluster stays until its job has ended",
                f"`kubectl describe rayjob {name}`; run it again",
            )
        wait(POLL_SECONDS)


def stopped(jobs: RayJobs, name: str) -> str:
    """Step 5; what there is to say."""
    try:
        run = jobs.read(name)
        jobs.delete(name)
    except httpx.HTTPError as error:
        return f"RayJob {name}: told to stop, and the API server: {error} → the run goes with its Job → delete that"
    state = (run and _state(run)) or "not begun"
    return f"RayJob {name}: told to stop, it was {state} → finished parts are kept → run it again"


def _state(run: Mapping[str, Any]) -> str:
    return str((run.get("status") or {}).get("jobDeploymentStatus") or "")


def _told(ray: httpx.Client, status: Mapping[str, Any]) -> tuple[str, int | None] | None:
    """What the job has printed, and its exit code once it has one; None while the head does not answer for it."""
    if not status.get("dashboardURL") or not status.get("jobId"):
        return None
    job = f"http://{status['dashboardURL']}/api/jobs/{status['jobId']}"
    try:
        logs = ray.get(f"{job}/logs").raise_for_status().json()["logs"]
        return str(logs or ""), ray.get(job).raise_for_status().json().get("driver_exit_code")
    except httpx.HTTPError:
        return None  # it may start again, or be gone: of that the RayJob tells


def main() -> int:
    """Launch the run; the result is the process's exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    try:
        settings = LaunchSettings()
    except ValidationError as error:
        return end(f"{first_problem(error)} → a CronJob sets it → make the Job from it", WRONG_SETTING)
    authority = ssl.create_default_context(cafile=str(IDENTITY / "ca.crt"))
    with (
        httpx.Client(base_url=API_SERVER, verify=authority, auth=_signed, timeout=TIMEOUT_SECONDS) as api,
        httpx.Client(timeout=TIMEOUT_SECONDS) as ray,
    ):
        jobs = RayJobs(api, (IDENTITY / "namespace").read_text())
        try:
            begin(jobs, settings, time.sleep)
            return follow(jobs, ray, settings.job_name, time.sleep)
        except EngineFailed as error:
            return end(str(error), error.exit_code)
        except httpx.HTTPError as error:
            return end(f"API server: {error} → it answers, and allows this → look at both", EngineFailed.exit_code)
        except SystemExit:
            return end(stopped(jobs, settings.job_name), STOPPED)


def _signed(request: httpx.Request) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {(IDENTITY / 'token').read_text()}"
    return request


if __name__ == "__main__":
    sys.exit(main())
