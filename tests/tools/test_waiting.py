"""What is said of pods that are not ready."""

from __future__ import annotations

from tools.waiting import reasons


def pod(name="fraud-v1-1", **status):
    return {"metadata": {"name": name, "namespace": "slipway-models"}, "status": status}


def test_the_schedulers_words_are_told():
    words = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    assert reasons([pod(conditions=[condition])]) == [f"slipway-models/fraud-v1-1: Unschedulable: {words}"]


def test_what_a_container_said_when_it_ended_is_told_though_it_waits_to_start_again():
    crashed = {
        "name": "inference",
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "message": "slipway: model.pt: not TorchScript\n"}},
    }
    [line] = reasons([pod(containerStatuses=[crashed])])
    assert line.endswith("container inference ended with 1: slipway: model.pt: not TorchScript")


def test_a_container_that_waits_and_one_that_is_not_ready_are_told():
    pulling = {"name": "a", "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}
    starting = {"name": "b", "state": {"running": {}}, "ready": False}
    [line] = reasons([pod(initContainerStatuses=[pulling], containerStatuses=[starting])])
    assert line.endswith("container a waits: ErrImagePull no such image; container b runs and is not ready")


def test_nothing_is_said_of_pods_that_are_ready_have_ended_well_or_go():
    ready = pod(
        conditions=[{"type": "PodScheduled", "status": "True"}],
        containerStatuses=[
            {"name": "a", "state": {"running": {}}, "ready": True, "lastState": {"terminated": {"exitCode": 1}}}
        ],
    )
    done = pod(containerStatuses=[{"name": "a", "state": {"terminated": {"exitCode": 0}}, "ready": False}])
    going = pod(containerStatuses=[{"name": "a", "state": {"terminated": {"exitCode": 137}}}])
    going["metadata"]["deletionTimestamp"] = "2026-11-26T17:00:00Z"
    assert reasons([ready, done, going, {"metadata": ready["metadata"]}]) == []
