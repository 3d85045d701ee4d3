"""An environment on AWS, as a stack file has it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from tests.infra.aws.answers import ACCOUNT, REGION

PLATFORM: dict[str, Any] = {
    "kind": "aws",
    "name": "prod",
    "account": ACCOUNT,
    "region": REGION,
    "network": {"zones": [f"{REGION}a", f"{REGION}b", f"{REGION}c"]},
    "cluster": {"admins": [f"arn:aws:iam::{ACCOUNT}:role/deployer"]},
    "gpuPools": {
        "l4": {"accelerator": "nvidia-l4", "provisioner": "managed", "min": 4, "max": 4, "sharing": {"timeSlices": 4}},
        "h100": {
            "accelerator": "nvidia-h100",
            "max": 2,
            "instanceTypes": ["p5.48xlarge"],
            "capacityReservation": "cr-0123456789abcdef0",
        },
    },
    "kafka": {"kind": "provisioned"},
    "gateway": {
        "host": "models.example.com",
        "certificate": f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/0123",
        "zoneId": "Z0123",
    },
}


def platform(**changes: Any) -> dict[str, Any]:
    """The platform's keys, some of them changed: `network={"nat": "one"}` changes that key of the network alone."""
    found = deepcopy(PLATFORM)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict) and "kind" not in value
        found[key] = {**found[key], **value} if both else value
    return found
