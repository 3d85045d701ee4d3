"""What a model's component says of itself, in previews and updates alike."""

import json
from dataclasses import replace
from unittest import mock

import pytest

from infra.deploy import deploy
from infra.k8s.quantities import nbytes
from tests.infra.evaluated import document, reading
from tests.infra.recording import DIGEST, realtime, record, resolve_without_registry, stack

READING = reading(document())


def resolve_with_evidence(models, url):
    found = resolve_without_registry(models, url)
    return {name: {key: replace(each, evidence=READING) for key, each in of.items()} for name, of in found.items()}


@pytest.mark.parametrize("preview", [False, True], ids=["update", "preview"])
def test_the_inputs_say_what_the_releases_are_and_what_is_demanded_of_them(preview):
    model = realtime(
        releases={"v1": {"model": "models:/fraud/1"}, "v2": {"model": "models:/fraud@champion"}},
        traffic={"v1": 90, "v2": 10},
        slo={"p99Ms": 50},
    )
    config = stack(models={"fraud": model}, evidence={"minimum": {"rocAuc": 0.9}}, production=True)
    inputs = record(lambda: deploy(config, resolve_with_evidence), preview=preview).one("RealtimeModel", "fraud")
    assert inputs["model"] == "fraud"
    assert inputs["traffic"] == {"v1": 90, "v2": 10}
    assert inputs["scaling"] == {"min": 1, "max": 1}
    assert inputs["slo"]["p99Ms"] == 50
    assert inputs["gate"]["production"] is True
    assert inputs["gate"]["enforcement"] == "advisory"
    assert inputs["gate"]["minimum"] == {"rocAuc": 0.9}
    v1, v2 = inputs["releases"]["v1"], inputs["releases"]["v2"]
    assert (v1["pinned"], v2["pinned"]) == (True, False), "an alias can move"
    assert (v2["reference"], v2["uri"], v2["version"]) == ("models:/fraud@champion", "models:/fraud/7", "7")
    assert (v1["digest"], v1["memoryBytes"]) == (DIGEST, 2**30)
    assert v1["evidence"]["signer"] == READING.signer
    assert v1["evidence"]["document"]["items"]["holdout"]["figures"]["rocAuc"] == 0.99


def test_the_inputs_are_the_same_from_one_preview_to_the_next():
    config = stack(models={"fraud": realtime()})

    def declared():
        return record(lambda: deploy(config, resolve_with_evidence), preview=False).one("RealtimeModel", "fraud")

    assert json.dumps(declared(), sort_keys=True) == json.dumps(declared(), sort_keys=True)


def test_the_checklist_is_a_hook_unless_the_stack_does_without():
    def hooks(**keys):
        config = stack(models={"fraud": realtime()}, **keys)
        return [hook.name for hook in record(lambda: deploy(config, resolve_with_evidence), preview=False).hooks]

    assert hooks() == ["checklist-fraud"]
    assert hooks(checklist={"enabled": False}) == []


def test_the_checklist_of_an_update_does_not_ask_the_shadow():
    releases = {"v1": {"model": "models:/fraud/1"}, "v2": {"model": "models:/fraud/2"}}
    config = stack(models={"fraud": realtime(releases=releases, shadow="v2")})
    with mock.patch("infra.serving.realtime.model.before_record", return_value=None) as hooked:
        record(lambda: deploy(config, resolve_with_evidence), preview=False)
    [(deployed, seconds)] = [call.args for call in hooked.call_args_list]
    assert (list(deployed.releases), deployed.shadow, seconds) == (["v1"], None, 60)


def test_the_record_of_the_checklist_changes_with_all_that_answers():
    def recorded(version=1, image="1", traffic=None):
        releases = {
            "v1": {"model": f"models:/fraud/{version}", "image": f"registry.example/inference@sha256:{image * 64}"},
            "v2": {"model": "models:/fraud/2"},
        }
        config = stack(models={"fraud": realtime(releases=releases, traffic=traffic or {"v1": 100})})
        done = record(lambda: deploy(config, resolve_without_registry), preview=False)
        return done.one("ConfigMap", "fraud-checklist")["metadata"]["annotations"]

    first = recorded()
    assert first == recorded()
    for changed in (recorded(version=3), recorded(image="2"), recorded(traffic={"v2": 100})):
        assert changed != first


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [("1Gi", 2**30), ("512Mi", 2**29), ("2k", 2000), ("1.5M", 1_500_000), ("7", 7), ("900m", 0)],
)
def test_bytes_of_a_quantity(quantity, expected):
    assert nbytes(quantity) == expected
