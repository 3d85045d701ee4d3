"""From the add-ons' settings to what they provide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra import names
from infra.addons.istio import Istio, IstioArgs
from infra.addons.mlflow import MlflowServer, MlflowServerArgs
from infra.outputs import AddonOutputs, PlatformOutputs

if TYPE_CHECKING:
    from infra.config.stack import StackConfig


def install(config: StackConfig, platform: PlatformOutputs) -> AddonOutputs:
    """Declares the add-ons, the mesh first: MLflow is reached through its gateway."""
    istio_args = IstioArgs(
        config=config.addons.istio,
        images=config.images,
        exposure=platform.exposure,
        backends=platform.namespaces,
    )
    gateway = Istio("istio", istio_args).gateway
    mlflow_args = MlflowServerArgs(
        config=config.addons.mlflow,
        image=config.images["mlflow"],
        platform=platform,
        gateway=gateway,
    )
    return AddonOutputs(gateway=gateway, mlflow=MlflowServer(names.MLFLOW, mlflow_args).mlflow)
