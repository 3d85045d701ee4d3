"""What a stack file may say of AWS, and how it is told what it may not."""

from __future__ import annotations

import pytest

from infra.errors import ConfigError
from tests.infra.aws.answers import ACCOUNT
from tests.infra.aws.environment import platform
from tests.infra.recording import realtime, stack

REFERENCE = {"kind": "reference", "stack": "acme/slipway/prod-platform", "url": "https://models.example.com"}


def problems_of(**keys):
    with pytest.raises(ConfigError) as raised:
        stack(**keys)
    return raised.value.problems


def gpu_pool(**keys):
    return {"gpuPools": {"l4": {"accelerator": "nvidia-l4", "max": 4, **keys}}}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"regoin": "x"}, 'slipway:platform.regoin: "x" → no such key → did you mean region?'),
        (
            {"network": {"cidr": "10.40.0.0/24"}},
            'slipway:platform.network.cidr: "10.40.0.0/24" → private, of /16 to /20 → write 10.40.0.0/16',
        ),
        (
            {"network": {"zones": ["eu-central-1a"]}},
            'slipway:platform.network.zones: ["eu-central-1a"] → at least 2 → add one',
        ),
        (
            {"account": 123},
            "slipway:platform.account: 123 → text → put it in quotes",
        ),
        (
            {"cluster": {"publicAccess": ["0.0.0.0/0"]}},
            'slipway:platform.cluster.publicAccess.0: "0.0.0.0/0" → not the whole internet → '
            "name the networks that people work from",
        ),
        (
            {"kafka": {"kind": "provisoned"}},
            "slipway:platform.kafka.kind: \"provisoned\" → one of a fixed set → choose 'provisioned' or 'serverless'",
        ),
        (
            {"kafka": {"kind": "provisioned", "volumeGB": 1}},
            "slipway:platform.kafka.volumeGB: 1 → no such key → did you mean volumeGb?",
        ),
        (
            {"gateway": {"internal": False}},
            None,
        ),
        (gpu_pool(maxx=1), "slipway:platform.gpuPools.l4.maxx: 1 → no such key → did you mean max?"),
        (gpu_pool(instanceTypes=["p5.48xlarge"]), None),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_is_named_with_its_key_the_rule_and_the_remedy(changes, problem):
    found = problems_of(platform=platform(**changes))
    if problem is None:  # a rule over several keys: the map that holds them is told, and its value is long
        assert len(found) == 1
        assert found[0].startswith("slipway:platform.g")
        assert found[0].count(" → ") == 2
    else:
        assert found == [problem]


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (
            {"platform": {**REFERENCE, "stack": "prod-platform"}},
            'slipway:platform.stack: "prod-platform" → a stack in full → '
            "write <organization>/<project>/<stack>, as `pulumi stack ls` shows it",
        ),
        (
            {"platform": REFERENCE, "deploys": "platform"},
            'slipway:deploys: "platform" → others build on a platform of kind aws → '
            "set platform.kind to aws, or drop deploys",
        ),
        (
            {"platform": REFERENCE, "topics": {"cards": {"partitions": 1}}},
            "slipway:topics: set → needs Kafka on the platform → set slipway:platform.brokers",
        ),
    ],
    ids=["short name", "nothing of its own", "no Kafka"],
)
def test_a_reference_is_held_to_what_it_can_be(keys, problem):
    assert problems_of(**keys) == [problem]


def test_a_platform_alone_has_no_models():
    [problem] = problems_of(platform=platform(), deploys="platform", models={"fraud": realtime()})
    assert problem.startswith("slipway:models: ")
    assert problem.endswith("a stack that deploys the platform alone has none → move them to a stack on top of it")


def test_a_platform_tells_what_it_has_before_anything_is_deployed():
    config = stack(platform=platform()).platform
    assert (config.url, config.brokers) == ("https://models.example.com", 3)
    assert config.gpus == {"nvidia-l4": 4, "nvidia-h100": 16}
    assert config.account == ACCOUNT


def test_previews_are_told_where_the_registry_is_where_the_gateway_does_not_serve_it():
    opened = platform(gateway={"internal": False, "sources": ["203.0.113.0/24"]})
    [problem] = problems_of(platform=opened, models={"fraud": realtime()})
    assert problem.startswith("slipway:registry.url: missing → a gateway that others reach serves models alone")
    assert stack(platform=opened, registry={"url": "http://127.0.0.1:5000"}, models={"fraud": realtime()})
