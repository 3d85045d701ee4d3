"""The example model, from its data to the registry."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.registry import RegisteredVersion

NAME = "breast-cancer"


def register(tracking_uri: str, alias: str = "champion") -> RegisteredVersion:
    """Train the example, evaluate it on its holdout and register it; the same bundle is registered once."""
    # torch and MLflow: seconds that no other command should pay for.
    from examples.breast_cancer import train as example  # noqa: PLC0415
    from tools.registry import Registration, register_bundle  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="slipway-example-") as scratch:
        trained = example.train(Path(scratch) / "bundle")
        registration = Registration(
            name=NAME,
            bundle=trained.directory,
            metrics=trained.metrics,
            parameters=trained.parameters,
            alias=alias,
        )
        return register_bundle(tracking_uri, registration)
