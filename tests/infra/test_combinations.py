"""Every combination that would be a silent no-op, and each beside it that works."""

from __future__ import annotations

import inspect

import pytest

from infra.config import combinations
from infra.errors import ConfigError
from tests.infra.recording import realtime, stack

RELEASES = {"v1": {"model": "models:/fraud/1"}, "v2": {"model": "models:/fraud/2"}}
KNATIVE = {"runtime": "kserve", "kserve": {"mode": "knative"}}

REFUSED = {
    "mirror without a shadow": (
        {"mirror": {"percent": 50}},
        'mirror: "set" → copies traffic to the shadow, and there is none → name one under `shadow`',
    ),
    "a shadow that is no release": (
        {"shadow": "v3"},
        'shadow: "v3" → one of the model\'s releases → add it to `releases`, or name one of: v1, v2',
    ),
    "a shadow that answers": (
        {"shadow": "v2", "traffic": {"v1": 90, "v2": 10}},
        'shadow: "v2" → answers nobody, and this release has traffic → set traffic.v2 to 0, or drop `shadow`',
    ),
    "a most below the least": (
        {"scaling": {"min": 4, "max": 2, "cpu": 70}},
        "scaling.max: 2 → at least scaling.min, 4 → raise it, or lower min",
    ),
    "a most that nothing leads to": (
        {"scaling": {"max": 4}},
        "scaling.max: 4 → replicas follow a load that is measured → set `cpu` or `requestsPerSecond`",
    ),
    "a cpu target without room": (
        {"scaling": {"cpu": 70}},
        "scaling.cpu: 70 → scales between min and max → set `max` above `min`",
    ),
    "a request target without room": (
        {"scaling": {"min": 2, "max": 2, "requestsPerSecond": 10}},
        "scaling.requestsPerSecond: 10.0 → scales between min and max → set `max` above `min`",
    ),
    "a pace up of a fixed number": (
        {"scaling": {"min": 2, "up": {"percent": 50}}},
        'scaling.up: "set" → is how replicas follow the load → set `max` above `min`',
    ),
    "a pace down of a fixed number": (
        {"scaling": {"min": 2, "down": {"seconds": 30}}},
        'scaling.down: "set" → is how replicas follow the load → set `max` above `min`',
    ),
    "zero replicas with nobody to wait for": (
        {"scaling": {"min": 0}},
        "scaling.min: 0 → a request to no replica would fail → "
        "at least 1, or KServe's Knative mode, which lets it wait",
    ),
    "two targets under Knative": (
        KNATIVE | {"scaling": {"max": 4, "cpu": 70, "requestsPerSecond": 10}},
        'scaling: ["cpu", "requestsPerSecond"] → Knative scales by one of them → drop the other',
    ),
    "a pace under Knative": (
        KNATIVE | {"scaling": {"max": 4, "cpu": 70, "up": {"percent": 50}}},
        'scaling: "up, down" → Knative has its own pace → drop them, or use kserve.mode standard',
    ),
    "settings of KServe for another runtime": (
        {"kserve": {"mode": "standard"}},
        'kserve: "set" → is for runtime kserve, and this one is deployment → drop it, or set runtime',
    ),
    "a name that KServe makes too long": (
        {"runtime": "kserve", "releases": RELEASES | {"averylongreleasename": {"model": "models:/fraud/3"}}},
        'releases.averylongreleasename: "averylongreleasename" → KServe names its Service '
        f"{'m' * 40}-averylongreleasename-predictor, and a name has at most 63 characters → "
        "shorten the model's name or the release's",
    ),
    "KServe where there is none": (
        {"runtime": "kserve"},
        'runtime: "kserve" → needs KServe in the cluster → set addons.kserve.enabled, or runtime deployment',
    ),
    "requests that nobody measures": (
        {"scaling": {"max": 4, "requestsPerSecond": 10}},
        "scaling.requestsPerSecond: 10.0 → is measured by the monitoring add-on → "
        "set addons.monitoring.enabled, or scale by `cpu`",
    ),
}
NOTHING = {"kserve": {"enabled": False}, "monitoring": {"enabled": False}}
EVERYTHING = {"kserve": {"enabled": True}, "monitoring": {"enabled": True}}

ACCEPTED = {
    "a shadow without weight": {"shadow": "v2"},
    "a shadow with a weight of zero": {"shadow": "v2", "traffic": {"v1": 100, "v2": 0}},
    "a shadow that sees half": {"shadow": "v2", "mirror": {"percent": 50, "comparePercent": 0}},
    "a caller that keeps its release": {"sticky": {"header": "x-user-id"}},
    "replicas by cpu": {"scaling": {"min": 1, "max": 4, "cpu": 70, "up": {"seconds": 30}}},
    "replicas by requests": {"scaling": {"min": 1, "max": 4, "requestsPerSecond": 10.5}},
    "KServe": {"runtime": "kserve", "kserve": {"mode": "standard"}, "scaling": {"max": 3, "cpu": 50}},
    "zero replicas under Knative": KNATIVE | {"scaling": {"min": 0, "max": 4, "requestsPerSecond": 10}},
}


def problems(keys, name="fraud", addons=EVERYTHING):
    with pytest.raises(ConfigError) as raised:
        stack(addons=addons, models={name: realtime(**{"releases": RELEASES, **keys})})
    return raised.value.problems


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_do_nothing_is_refused_with_its_key_and_the_remedy(case):
    keys, problem = REFUSED[case]
    name = "m" * 40 if "too long" in case else "fraud"
    addons = NOTHING if "where there is none" in case or "nobody measures" in case else EVERYTHING
    assert f"slipway:models.{name}.{problem}" in problems(keys, name, addons)


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_works_is_accepted(case):
    assert stack(addons=EVERYTHING, models={"fraud": realtime(**{"releases": RELEASES, **ACCEPTED[case]})})


def test_every_refusal_has_a_case():
    source = inspect.getsource(combinations)
    assert source.count("yield Refused(") <= len(REFUSED), "a refusal that no case shows may refuse what works"


def test_all_of_a_stacks_refusals_are_told_at_once():
    told = problems({"shadow": "v3", "scaling": {"cpu": 70}})
    assert [line.split(":")[1] for line in told] == ["models.fraud.shadow", "models.fraud.scaling.cpu"]


GPU = {"model": "models:/fraud/1", "resources": {"gpu": 1, "accelerator": "nvidia-l4"}}


def gpu_problems(resources=None, gpus=None, **keys):
    release = {**GPU, "resources": resources or GPU["resources"]}
    with pytest.raises(ConfigError) as raised:
        stack(
            platform={"kind": "local", "gpus": gpus or {}}, models={"fraud": realtime(releases={"v1": release}, **keys)}
        )
    return raised.value.problems


def test_more_gpus_than_there_are_are_refused_with_the_quotas_name():
    assert gpu_problems(gpus={"nvidia-l4": 2}, scaling={"min": 2}) == [
        "slipway:models.fraud.releases.v1.resources.gpu: 3 at its peak, 3 with all releases → "
        "slipway:platform.gpus.nvidia-l4 is 2 → "
        "ask for less, lower scaling.max, or raise that where the nodes have more"
    ]
    assert "platform.gpus.nvidia-l4 is 0" in gpu_problems()[0]


@pytest.mark.parametrize(
    ("share", "count", "enough"), [(None, 1, 3), ("shared", 1, 1), ("1g.10gb", 4, 2)],
)  # fmt: skip
def test_what_fits_the_quota_is_accepted(share, count, enough):
    resources = {"gpu": count, "accelerator": "nvidia-h100", "gpuShare": share}
    release = {"model": "models:/fraud/1", "resources": {k: v for k, v in resources.items() if v}}
    model = realtime(releases={"v1": release}, scaling={"min": 2})
    assert stack(platform={"kind": "local", "gpus": {"nvidia-h100": enough}}, models={"fraud": model})
    if enough > 1:
        with pytest.raises(ConfigError, match=r"platform\.gpus\.nvidia-h100"):
            stack(platform={"kind": "local", "gpus": {"nvidia-h100": enough - 1}}, models={"fraud": model})


@pytest.mark.parametrize(
    ("resources", "rule"),
    [
        ({"gpu": 1}, "a GPU of a kind"),
        ({"accelerator": "nvidia-l4"}, "says which GPU, and asks for none"),
        ({"gpu": 1, "accelerator": "nvidia-l5"}, "a GPU that is known"),
        ({"gpu": 1, "accelerator": "nvidia-l4", "gpuShare": "1g.10gb"}, "a part of an nvidia-l4"),
    ],
)
def test_a_gpu_that_cannot_be_had_is_refused(resources, rule):
    assert rule in gpu_problems(resources)[0]
