"""What is installed on a platform before any model: the registry, the mesh, what watches and what scales."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from infra.config.aws_names import ZoneId  # noqa: TC001 (pydantic reads it at run time)
from infra.config.base import (
    Audience,
    Certificates,
    ConfigModel,
    DomainName,
    HttpsUrl,
    HttpUrl,
    Quantity,
    Subject,
    broken_rule,
)


class IssuerConfig(ConfigModel):
    """Who signs tokens, and whose of them the gateway lets in."""

    issuer: HttpUrl
    """The claim `iss`, to the letter."""

    audiences: Annotated[list[Audience], Field(min_length=1)]
    """The claim `aud` is one of these: the registry's own, so that a token for another service is none for it."""

    subjects: Annotated[list[Subject], Field(min_length=1)]
    """The claim `sub` is one of these, or begins as one that ends in `*`, which alone is everybody whom the issuer
    knows: where it signs for strangers, too, say whom."""

    jwks_uri: HttpsUrl | None = None
    """Where the mesh's control plane fetches the issuer's public keys."""

    authority: Certificates | None = None
    """Certificate of the authority that vouches for that address, in PEM, where no public one does."""

    jwks: str | None = None
    """The issuer's public keys themselves, a JSON Web Key Set, where it has no such address."""

    @field_validator("authority")
    @classmethod
    def _of_an_address(cls, authority: str | None, info: ValidationInfo) -> str | None:
        if authority is not None and info.data.get("jwks_uri") is None:
            raise broken_rule("an authority vouches for an address", "set jwksUri, or leave authority out")
        return authority

    @field_validator("jwks")
    @classmethod
    def _keys_from_one_place(cls, jwks: str | None, info: ValidationInfo) -> str | None:
        if (jwks is None) == (info.data.get("jwks_uri") is None):
            raise broken_rule("an issuer's keys come from one place", "set jwksUri or jwks, and not both")
        return jwks


class MlflowConfig(ConfigModel):
    """The MLflow server: experiments, the model registry and its artifacts' proxy."""

    database_size: Quantity = "2Gi"
    """Size of the volume of MLflow's database where the platform keeps it on one."""

    login: list[IssuerConfig] = Field(default_factory=list)
    """Whose tokens the gateway asks for before it lets a request through to MLflow. Empty: whoever reaches the gateway
    is let in, and a gateway that others reach does not serve MLflow."""

    memory: Quantity = "2Gi"
    """Memory of the server: two processes of some 400 MB, and artifacts that stream through them."""


Directory = Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9._-]+)+$")]
"""A directory of every node, from its root."""


class CniConfig(ConfigModel):
    """Where the nodes' container runtime looks for network plugins. The defaults are those of EKS and kind; in the
    embedded cluster it is `/run/cni/bin` and `/run/cni/net.d`.
    """

    bin: Directory = "/opt/cni/bin"
    """The plugins themselves."""

    conf: Directory = "/etc/cni/net.d"
    """Their configuration."""


class IstioConfig(ConfigModel):
    """The mesh: its control plane and the gateway that every request enters through."""

    charts: str | None = None
    """Directory with Istio's Helm charts (`base`, `istio-control/istio-discovery`, `gateway`, `istio-cni`).
    Default: the one that the toolchain recorded in `build/toolchain.json`."""

    mtls: Literal["strict", "disable"] | None = None
    """`strict`: pods of models that answer requests have a sidecar, which lets in nobody without a certificate of the
    mesh. Default: strict on AWS; locally disable, for each sidecar costs memory and start of two cores."""

    cni: CniConfig = Field(default_factory=CniConfig)
    """Network plugins of the nodes, among which `mtls: strict` puts one."""


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


class GrafanaConfig(ConfigModel):
    """Grafana, for the dashboards that come with the monitoring add-on. Chart and image are its own project's."""

    enabled: bool = False
    """Whether it is installed."""


class CertManagerConfig(ConfigModel):
    """cert-manager, for certificates of what else runs in the cluster. Slipway itself needs none of it."""

    enabled: bool = False
    """Whether it is installed, its kinds with it. Issuers are yours; it has no rights over DNS zones."""


class ExternalDnsConfig(ConfigModel):
    """external-dns, for names of Services and Ingresses of what else runs in the cluster, on AWS. The gateway's own
    name is a record of the platform.
    """

    zones: dict[DomainName, ZoneId] = Field(default_factory=dict)
    """Route 53 zones that it makes records in, by domain. None: it is not installed."""


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


class KuberayConfig(ConfigModel):
    """KubeRay's operator, for batch models with `engine: ray`."""

    enabled: bool = False
    """Whether it is installed."""

    charts: str | None = None
    """Directory with the Helm chart of KubeRay's kinds (`kuberay-crd`).
    Default: the one that the toolchain recorded in `build/toolchain.json`."""


class AddonsConfig(ConfigModel):
    """Settings of the add-ons; each has a default that works."""

    mlflow: MlflowConfig = Field(default_factory=MlflowConfig)
    """The MLflow server."""

    istio: IstioConfig = Field(default_factory=IstioConfig)
    """The mesh."""

    monitoring: MonitoringConfig = Field(default_factory=MonitoringConfig)
    """Prometheus and what it feeds."""

    grafana: GrafanaConfig = Field(default_factory=GrafanaConfig)
    """Grafana."""

    cert_manager: CertManagerConfig = Field(default_factory=CertManagerConfig)
    """cert-manager."""

    external_dns: ExternalDnsConfig = Field(default_factory=ExternalDnsConfig)
    """external-dns."""

    kserve: KserveConfig = Field(default_factory=KserveConfig)
    """KServe."""

    keda: KedaConfig = Field(default_factory=KedaConfig)
    """KEDA."""

    kuberay: KuberayConfig = Field(default_factory=KuberayConfig)
    """KubeRay."""
