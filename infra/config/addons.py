"""What is installed on a platform before any model: the registry and the mesh."""

from __future__ import annotations

from pydantic import Field

from infra.config.base import ConfigModel, Quantity


class MlflowConfig(ConfigModel):
    """The MLflow server: experiments, the model registry and its artifacts' proxy."""

    database_size: Quantity = "2Gi"
    """Size of the volume of MLflow's database where the platform keeps it on one."""

    memory: Quantity = "2Gi"
    """Memory of the server: two processes of some 400 MB, and artifacts that stream through them."""


class IstioConfig(ConfigModel):
    """The mesh: its control plane and the gateway that every request enters through."""

    charts: str | None = None
    """Directory with Istio's Helm charts (`base`, `istio-control/istio-discovery`, `gateway`).
    Default: the one that the toolchain recorded in `build/toolchain.json`."""


class AddonsConfig(ConfigModel):
    """Settings of the add-ons; each has a default that works."""

    mlflow: MlflowConfig = Field(default_factory=MlflowConfig)
    """The MLflow server."""

    istio: IstioConfig = Field(default_factory=IstioConfig)
    """The mesh."""
