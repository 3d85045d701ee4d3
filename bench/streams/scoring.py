"""The model behind every stream: thirty features, a weighted sum through a sigmoid. Needs numpy alone.

Imported inside the peers' own processes, and by our worker through its artifact's `model.py`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

FEATURES = tuple(f"f{number:02d}" for number in range(30))
VERSION = "7"
WEIGHTS = np.linspace(-1.0, 1.0, len(FEATURES))


def probabilities(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Float [rows, 30] → [rows]."""
    found: np.ndarray[Any, Any] = 1.0 / (1.0 + np.exp(-(rows @ WEIGHTS)))
    return found


def answer(features: dict[str, float], probability: float) -> dict[str, Any]:
    """What every stream writes for one message."""
    return {
        "input": features,
        "prediction": int(probability > 0.5),  # noqa: PLR2004  # the threshold
        "probability": probability,
        "timestamp": datetime.now(UTC).isoformat(),
        "model_version": VERSION,
    }


def one(features: dict[str, float]) -> dict[str, Any]:
    """Answer one message."""
    return answer(features, float(probabilities(np.array([[features[name] for name in FEATURES]]))[0]))


def many(batch: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Answer a batch with one call of the model."""
    found = probabilities(np.array([[features[name] for name in FEATURES] for features in batch])).tolist()
    return [answer(features, probability) for features, probability in zip(batch, found, strict=True)]
