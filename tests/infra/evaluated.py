"""Evidence as an evaluation records it, with figures of a test's own."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.evidence.document import SCHEMA
from infra.evidence.seal import seal, unseal

DIGEST = "sha256:" + "d" * 64
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)

FIGURES: dict[str, dict[str, Any]] = {
    "holdout": {"rocAuc": 0.99, "accuracy": 0.96, "f1": 0.95, "logLoss": 0.08, "rows": 114},
    "latency": {"p50Ms": 3.0, "p99Ms": 9.0, "ratePerSecond": 50, "seconds": 10, "requests": 500, "errors": 0},
    "memory": {"peakBytes": 400 * 2**20},
    "load": {"requestsPerSecond": 900, "connections": 8, "seconds": 5, "requests": 4500, "errors": 0},
    "transformer": {
        "kind": "declarative", "digest": "sha256:" + "a" * 64,
        "goldenRows": 40, "goldenDifference": 1e-8, "goldenTolerance": 1e-6,
    },
    "rollback": {"alias": "champion", "answers": "1", "restores": "1", "settled": True, "first": False},
    "monitoring": {"series": ["slipway_requests_total"], "missing": []},
}  # fmt: skip


def document(digest=DIGEST, at=None, data="5" * 64, **changed):
    """A good document; `changed` are figures by item, None drops an item."""
    items = copy.deepcopy(FIGURES)
    for item, figures in changed.items():
        if figures is None:
            del items[item]
        else:
            items[item] |= figures
    return {
        "schema": SCHEMA,
        "model": "fraud",
        "version": "1",
        "digest": digest,
        "evaluatedAt": (at or datetime.now(UTC)).isoformat(),
        "data": {"source": "holdout.csv", "sha256": data, "rows": 114, "target": "target"},
        # As a file that somebody else has written may say: whoever believes it is wrong.
        "items": {item: {"figures": figures, "passed": True} for item, figures in items.items()},
    }


def content_of(said):
    """The file."""
    return json.dumps(said).encode()


def reading(said, key=KEY):
    """Evidence as it is read, signed by a key."""
    content = content_of(said)
    return unseal(content, seal(content, "mlflow-artifacts:/1/evidence.json", key))
