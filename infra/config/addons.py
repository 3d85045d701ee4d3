"""What is installed on a platform before any model: the registry, the mesh, what watches and what scales."""

from __future__ import annotations

from typing import Annotated

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


class MonitoringConfig(ConfigModel):
    """Prometheus, its alerts and the metrics that releases scale by."""

    enabled: bool = True
    """Whether it is installed. Rollouts that judge by metrics, and scaling by requests, need it."""

    scrape_seconds: Annotated[int, Field(ge=1, le=60)] = 2
    """Time between two scrapes. Verdicts of a rollout see a failure after four of them; one scrape costs a replica
    two milliseconds of a core."""

    retention_hours: Annotated[int, Field(ge=26, le=8760)] = 48
    """How long samples are kept; a day's error budget and the scores of the day before need 26 hours."""

    memory: Quantity = "300Mi"
    """Memory of Prometheus: some 100 MB, and 10 KB for each series; a replica has two hundred."""

    volume: Quantity = "2Gi"
    """Size of its volume: a replica writes some 15 MB a day at a scrape every two seconds."""


class KserveConfig(ConfigModel):
    """KServe's controller, for models with `runtime: kserve`."""

    enabled: bool = False
    """Whether it is installed."""

    charts: str | None = None
    """Directory with KServe's Helm charts (`kserve-crd-minimal`).
    Default: the one that the toolchain recorded in `build/toolchain.json`."""


class KedaConfig(ConfigModel):
    """KEDA, for models that scale to zero or by what no pod measures."""

    enabled: bool = False
    """Whether it is installed."""

    charts: str | None = None
    """Directory with the Helm chart of KEDA's kinds (`keda-crd`).
    Default: the one that the toolchain recorded in `build/toolchain.json`."""


class AddonsConfig(ConfigModel):
    """Settings of the add-ons; each has a default that works."""

    mlflow: MlflowConfig = Field(default_factory=MlflowConfig)
    """The MLflow server."""

    istio: IstioConfig = Field(default_factory=IstioConfig)
    """The mesh."""

    monitoring: MonitoringConfig = Field(default_factory=MonitoringConfig)
    """Prometheus and what it feeds."""

    kserve: KserveConfig = Field(default_factory=KserveConfig)
    """KServe."""

    keda: KedaConfig = Field(default_factory=KedaConfig)
    """KEDA."""
