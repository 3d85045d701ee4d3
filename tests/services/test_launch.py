"""The launcher of a run on Ray, against an API server and a head that are a few dictionaries."""

from __future__ import annotations

import json

import httpx
import pytest

from services.inference import launch
from services.inference.adapters.batch.errors import EngineFailed
from services.inference.batch_settings import LaunchSettings

RUN = "nightly-29402040"
TEMPLATE = {
    "apiVersion": "ray.io/v1",
    "kind": "RayJob",
    "metadata": {"name": "nightly", "labels": {"slipway.dev/model": "nightly"}, "uid": "of-the-template"},
    "spec": {"suspend": True, "entrypoint": "python -m job", "rayClusterSpec": {"a": 1}},
    "status": {"jobDeploymentStatus": "Suspended"},
}


class Kubernetes(httpx.BaseTransport):
    """RayJobs by name; what was asked of it."""

    def __init__(self, **found):
        self.found = {"nightly": TEMPLATE, **found}
        self.asked = []

    def handle_request(self, request):
        name = request.url.path.rpartition("/rayjobs")[2].strip("/")
        self.asked.append(f"{request.method} {name}".strip())
        if request.method == "POST":
            made = json.loads(request.content)
            self.found[made["metadata"]["name"]] = made
            return httpx.Response(201, json=made)
        if name not in self.found:
            return httpx.Response(404)
        if request.method == "DELETE":
            return httpx.Response(200, json=self.found.pop(name))
        return httpx.Response(200, json=self.found[name])


class Head(httpx.BaseTransport):
    """A head with one job; it answers 404 until there is one."""

    def __init__(self):
        self.logs, self.code = None, None

    def handle_request(self, request):
        if self.logs is None:
            return httpx.Response(404)
        if request.url.path.endswith("/logs"):
            return httpx.Response(200, json={"logs": self.logs})
        return httpx.Response(200, json={"driver_exit_code": self.code})


def settings_of(job=RUN):
    return LaunchSettings(
        SLIPWAY_BATCH_RAYJOB="nightly", SLIPWAY_BATCH_JOB_NAME=job, SLIPWAY_BATCH_JOB_UID="of-the-job"
    )


def begun(kubernetes):
    with httpx.Client(transport=kubernetes, base_url="https://kubernetes") as client:
        launch.begin(launch.RayJobs(client, "models"), settings_of(), lambda _: None)
    return kubernetes.found.get(RUN)


def status(state, job="", **more):
    return {"jobDeploymentStatus": state, "jobStatus": job, "dashboardURL": "head:8265", "jobId": "1", **more}


def followed(*statuses):
    """The exit code of a run that goes through these, each with what the head then has: (status, logs, code)."""
    kubernetes, head, rest = Kubernetes(), Head(), iter(statuses)

    def step(_=0.0):
        told, head.logs, head.code = next(rest)
        kubernetes.found[RUN] = {"status": told}

    step()
    with (
        httpx.Client(transport=kubernetes, base_url="https://kubernetes") as client,
        httpx.Client(transport=head) as ray,
    ):
        return launch.follow(launch.RayJobs(client, "models"), ray, RUN, step)


def test_a_run_is_the_models_rayjob_under_the_jobs_name_and_goes_with_the_job():
    made = begun(Kubernetes())
    assert made["spec"] == {
        "entrypoint": f"SLIPWAY_BATCH_JOB_NAME={RUN} python -m job",
        "rayClusterSpec": {"a": 1},
    }, "not suspended, and it knows when it was due"
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Job", RUN, "of-the-job")
    assert made["metadata"]["labels"] == TEMPLATE["metadata"]["labels"]


def test_a_run_that_a_lost_pod_began_is_gone_on_with():
    kubernetes = Kubernetes(**{RUN: {"status": status("Running")}})
    begun(kubernetes)
    assert not [each for each in kubernetes.asked if each.startswith(("POST", "DELETE"))]


@pytest.mark.parametrize("state", ["Failed", "ValidationFailed", "Complete"])
def test_a_run_that_has_ended_makes_room_for_another_try(state):
    kubernetes = Kubernetes(**{RUN: {"status": status(state)}})
    assert "entrypoint" in begun(kubernetes)["spec"]
    assert [each for each in kubernetes.asked if not each.startswith("GET")] == [f"DELETE {RUN}", "POST"]


def test_a_model_that_is_not_there_any_more_is_said():
    kubernetes = Kubernetes()
    del kubernetes.found["nightly"]
    with pytest.raises(EngineFailed, match="RayJob nightly: not there"):
        begun(kubernetes)


def test_a_job_of_the_models_own_name_would_take_what_runs_are_copies_of():
    with pytest.raises(ValueError, match="give the Job another"):
        settings_of(job="nightly")


def test_what_the_job_prints_is_printed_once_and_a_run_that_held_ends_with_0(capsys):
    code = followed(
        (status("Initializing"), None, None),
        (status("Running", "RUNNING"), "one\n", None),
        (status("Running", "RUNNING"), "one\ntwo\n", None),
        (status("Complete", "SUCCEEDED"), "one\ntwo\nthree\n", 0),
    )
    assert code == 0
    assert capsys.readouterr().out == "one\ntwo\nthree\n"


def test_the_exit_code_is_the_jobs_own():
    ended = status("Failed", "FAILED", reason="AppFailed")
    assert followed((status("Running", "RUNNING"), "", None), (ended, "slipway: no input", 3)) == 3


def test_a_job_that_began_again_on_another_head_is_printed_from_its_start(capsys):
    running = status("Running", "RUNNING")
    followed((running, "a long start\n", None), (running, "again\n", None), (status("Complete", "SUCCEEDED"), None, 0))
    assert capsys.readouterr().out == "a long start\nagain\n"


@pytest.mark.parametrize(
    "ended",
    [
        status("Failed", "FAILED", reason="DeadlineExceeded", message="took too long"),
        status("ValidationFailed", reason="ValidationFailed", message="took too long"),
        status("Complete", "STOPPED", message="took too long"),
    ],
    ids=["failed", "invalid", "stopped"],
)
def test_a_run_that_ended_without_an_exit_code_may_be_tried_again(ended):
    with pytest.raises(EngineFailed, match="took too long") as raised:
        followed((ended, None, None))
    assert raised.value.exit_code == 9


def stopped(kubernetes):
    with httpx.Client(transport=kubernetes, base_url="https://kubernetes") as client:
        return launch.stopped(launch.RayJobs(client, "models"), RUN)


def test_a_launcher_that_is_told_to_stop_takes_its_run_with_it_and_says_how_far_that_was():
    kubernetes = Kubernetes(**{RUN: {"status": status("Initializing")}})
    assert stopped(kubernetes).startswith(f"RayJob {RUN}: told to stop, it was Initializing → finished parts are kept")
    assert RUN not in kubernetes.found
    assert "it was not begun" in stopped(Kubernetes())


def test_a_launcher_that_is_told_to_stop_says_that_the_api_server_does_not_answer():
    class Silent(httpx.BaseTransport):
        def handle_request(self, request):
            raise httpx.ConnectError("no route")

    assert "told to stop, and the API server: no route" in stopped(Silent())


@pytest.mark.parametrize("again", [True, False], ids=["another head comes", "none comes"])
def test_a_head_that_is_lost_is_followed_until_the_rayjob_has_ended(again, capsys):
    running, lost = (status("Running", "RUNNING"), "one\n", None), (status("Running", "RUNNING"), None, None)
    if again:
        restarted = (status("Running", "RUNNING"), "resumed\n", None)
        assert followed(running, lost, lost, restarted, (status("Complete", "SUCCEEDED"), "resumed\n", 0)) == 0
        assert capsys.readouterr().out == "one\nresumed\n"
    else:
        ended = status("Failed", "", reason="DeadlineExceeded", message="longer than its deadline")
        with pytest.raises(EngineFailed, match="DeadlineExceeded: longer than its deadline"):
            followed(running, lost, lost, (ended, None, None))


def test_a_rayjob_that_somebody_took_away_is_a_failure():
    with (
        httpx.Client(transport=Kubernetes(), base_url="https://kubernetes") as client,
        httpx.Client(transport=Head()) as ray,
        pytest.raises(EngineFailed, match="gone"),
    ):
        launch.follow(launch.RayJobs(client, "models"), ray, RUN, lambda _: None)
