"""AWS as data: what an environment there consists of. Names no resource and asks no API."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from infra.config.accelerators import AcceleratorName, Instance, instances, placement
from infra.config.aws_names import (
    Account,
    BrokerType,
    CertificateArn,
    DatabaseClass,
    EnvironmentName,
    HostName,
    InstanceFamily,
    InstanceType,
    PolicyArn,
    PoolName,
    PrincipalArn,
    Range,
    Region,
    ReservationId,
    TagKey,
    TagValue,
    VpcRange,
    Zone,
    ZoneId,
)
from infra.config.base import ConfigModel, broken_rule


class NetworkConfig(ConfigModel):
    """The VPC."""

    cidr: VpcRange = "10.40.0.0/16"
    """Its addresses. Pods have addresses of it, so that a small one ends the cluster's growth."""

    zones: Annotated[tuple[Zone, ...], Field(min_length=2, max_length=3)]
    """Availability zones, in the order in which they get their subnets: append, never reorder."""

    nat: Literal["one", "perZone", "none"] = "perZone"
    """Ways out: a NAT gateway in each zone, one for all (cheaper, and lost with its zone), or none: then nodes reach
    AWS by endpoints alone, and every image has to be in ECR."""

    flow_log_days: Annotated[int, Field(ge=1, le=3653)] = 90
    """How long the record of connections is kept."""


class SystemNodesConfig(ConfigModel):
    """Nodes for what an environment itself runs."""

    instance_types: Annotated[tuple[InstanceType, ...], Field(min_length=1)] = (
        "m7i.xlarge",
        "m7a.xlarge",
        "m6i.xlarge",
    )
    """Instance types, the first one that is to be had."""

    count: Annotated[int, Field(ge=2, le=100)] = 3
    """Nodes: one in each zone. Nothing adds any; what grows goes to `modelNodes` and to GPU pools."""

    disk_gb: Annotated[int, Field(ge=30, le=2000)] = 100
    """Root disk in 10⁹ bytes; an inference image takes five."""


class ModelNodesConfig(ConfigModel):
    """Nodes without GPUs that come and go with the pods that wait for one."""

    instance_families: Annotated[tuple[InstanceFamily, ...], Field(min_length=1)] = ("m7i", "m7a", "m6i", "c7i", "c7a")
    """Families of instance types, of which Karpenter takes the cheapest size that fits."""

    max_cpus: Annotated[int, Field(ge=4, le=10_000)] = 64
    """Virtual CPUs of all of them at most."""

    spot: bool = False
    """Cheaper nodes that AWS may take back within two minutes."""

    disk_gb: Annotated[int, Field(ge=50, le=16000)] = 100
    """Root disk in 10⁹ bytes."""


class ClusterConfig(ConfigModel):
    """EKS."""

    version: Literal["1.33", "1.34"] = "1.34"
    """Kubernetes. The add-ons' versions follow it."""

    admins: Annotated[tuple[PrincipalArn, ...], Field(min_length=1)]
    """IAM roles that administer the cluster; whoever runs `pulumi up` is one of them, or it locks itself out."""

    public_access: tuple[Range, ...] = ()
    """Networks that reach the API server from outside the VPC. None unless said: then `pulumi up` runs inside."""

    log_days: Annotated[int, Field(ge=1, le=3653)] = 90
    """How long the control plane's logs are kept."""

    system_nodes: SystemNodesConfig = Field(default_factory=SystemNodesConfig)
    """Nodes for what the environment itself runs."""

    model_nodes: ModelNodesConfig = Field(default_factory=ModelNodesConfig)
    """Nodes for models without GPUs."""


class GpuSharingConfig(ConfigModel):
    """How pods share a GPU of the pool: one of the two."""

    time_slices: Annotated[int, Field(ge=2, le=48)] | None = None
    """Pods that take turns on one GPU, without memory of their own: `gpuShare: shared` asks for one."""

    mig: str | None = None
    """Profile that every GPU is cut into (`1g.10gb`): `gpuShare: 1g.10gb` asks for one."""

    @model_validator(mode="after")
    def _one_of_them(self) -> GpuSharingConfig:
        if (self.time_slices is None) == (self.mig is None):
            raise broken_rule("takes turns or is cut", "set one of timeSlices and mig")
        return self


class GpuPoolConfig(ConfigModel):
    """Nodes with one kind of GPU."""

    accelerator: AcceleratorName
    """Which."""

    provisioner: Literal["karpenter", "managed"] = "karpenter"
    """Karpenter makes nodes for pods that wait; a managed node group always has as many as it has."""

    instance_types: tuple[InstanceType, ...] = ()
    """Instance types that have it. Default: the smallest; those of a managed pool have equally many GPUs."""

    min: Annotated[int, Field(ge=0, le=100)] = 0
    """Nodes that always run."""

    max: Annotated[int, Field(ge=1, le=100)]
    """Nodes at most: the quota that previews hold releases to."""

    spot: bool = False
    """Cheaper nodes that AWS may take back within two minutes."""

    capacity_reservation: ReservationId | None = None
    """On-demand capacity reservation that the nodes use, and nothing else."""

    disk_gb: Annotated[int, Field(ge=50, le=16000)] = 200
    """Root disk in 10⁹ bytes."""

    sharing: GpuSharingConfig | None = None
    """How pods share a GPU; whole GPUs unless said."""

    @field_validator("instance_types")
    @classmethod
    def _not_twice(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(types)) != len(types):
            raise broken_rule("each once", "drop the second")
        return types

    @model_validator(mode="after")
    def _is_to_be_had(self) -> GpuPoolConfig:
        known = {each.type for each in instances(self.accelerator)}
        unknown = [each for each in self.instance_types if each not in known]
        if unknown:
            raise broken_rule(
                f"{unknown[0]} has no {self.accelerator}", f"instanceTypes of: {', '.join(sorted(known))}"
            )
        if self.max < self.min:
            raise broken_rule(f"max at least min, {self.min}", "raise max, or lower min")
        if self.spot and self.capacity_reservation is not None:
            raise broken_rule("a reservation is of on-demand capacity", "drop spot, or capacityReservation")
        if self.provisioner == "karpenter" and self.min:
            raise broken_rule(
                "Karpenter makes nodes for pods that wait, and keeps none", "set min to 0, or use managed"
            )
        if self.provisioner == "managed" and self.min != self.max:
            raise broken_rule(
                "a managed pool has a fixed number of nodes, nothing adds any for pods that wait",
                f"set min to {self.max} as well, or use karpenter",
            )
        if self.provisioner == "managed" and len({each.gpus for each in self.chosen}) > 1:
            raise broken_rule(
                "a managed pool's instance types have equally many GPUs", "make two pools, or use karpenter"
            )
        if self.sharing is not None and self.sharing.mig is not None:
            placement(self.accelerator, 1, self.sharing.mig)  # raises where the GPU has no such profile
        return self

    @property
    def chosen(self) -> tuple[Instance, ...]:
        """The instance types, as the table has them."""
        known = instances(self.accelerator)
        return tuple(each for each in known if each.type in self.instance_types) or known[:1]

    @property
    def gpus(self) -> int:
        """GPUs of the whole pool at most; of instance types with different numbers the fewest, which are sure."""
        return self.max * min(each.gpus for each in self.chosen)


class ProvisionedKafkaConfig(ConfigModel):
    """MSK with brokers of one's own."""

    kind: Literal["provisioned"]
    """Kind of the cluster."""

    version: str = "3.9.x"
    """Kafka."""

    instance_type: BrokerType = "kafka.m7g.large"
    """Of a broker."""

    brokers_per_zone: Annotated[int, Field(ge=1, le=10)] = 1
    """Brokers in each zone."""

    volume_gb: Annotated[int, Field(ge=10, le=16000)] = 200
    """Of each broker, in 10⁹ bytes."""


SERVERLESS_BROKERS = 3
"""Copies that MSK Serverless keeps of every message; one has no say in it."""


class ServerlessKafkaConfig(ConfigModel):
    """MSK Serverless."""

    kind: Literal["serverless"]
    """Kind of the cluster."""


AwsKafkaConfig = Annotated[ProvisionedKafkaConfig | ServerlessKafkaConfig, Field(discriminator="kind")]


class DatabaseConfig(ConfigModel):
    """RDS PostgreSQL under MLflow."""

    version: str = "17"
    """Major version; minor ones come by themselves."""

    instance_class: DatabaseClass = "db.t4g.medium"
    """Size."""

    storage_gb: Annotated[int, Field(ge=20, le=16000)] = 20
    """Disk at first, in 10⁹ bytes; it grows to five times that by itself."""

    multi_az: bool | None = None
    """A standby in another zone. Default: in production."""

    backup_days: Annotated[int, Field(ge=1, le=35)] = 14
    """How far back it can be restored, to the second."""


class GatewayConfig(ConfigModel):
    """How callers reach the environment: a network load balancer that ends TLS."""

    host: HostName
    """Name that callers use."""

    certificate: CertificateArn
    """ACM certificate of that name, in the same region."""

    zone_id: ZoneId | None = None
    """Route 53 zone that the name is added to; without one somebody else points it at the load balancer."""

    internal: bool = True
    """Whether only the VPC, and what is connected to it, reaches the gateway. Where others do, it serves models alone:
    the registry and Prometheus are then for the VPC, and `slipway:registry.url` says where."""

    sources: tuple[Range, ...] = ()
    """Networks that may call. Default: the VPC's own; needed where it is not internal."""

    @model_validator(mode="after")
    def _says_who_may_call(self) -> GatewayConfig:
        if not self.internal and not self.sources:
            raise broken_rule("a gateway that the internet reaches says who may call", "set sources, or internal: true")
        return self


class AwsPlatformConfig(ConfigModel):
    """An environment in one region of one account."""

    kind: Literal["aws"]
    """The platform's kind."""

    name: EnvironmentName
    """Begins the name of everything there: `slipway-<name>`."""

    account: Account
    """AWS account; credentials of another one are refused before anything is made."""

    region: Region
    """AWS region."""

    network: NetworkConfig
    """The VPC."""

    cluster: ClusterConfig
    """EKS."""

    gpu_pools: dict[PoolName, GpuPoolConfig] = Field(default_factory=dict)
    """Nodes with GPUs, by the name of the pool."""

    kafka: AwsKafkaConfig | None = None
    """MSK, for stream models."""

    database: DatabaseConfig = Field(default_factory=DatabaseConfig)
    """MLflow's database."""

    gateway: GatewayConfig
    """How callers get in."""

    log_bucket_days: Annotated[int, Field(ge=1, le=3653)] = 365
    """How long access logs are kept."""

    monthly_budget: Annotated[int, Field(ge=1)] | None = None
    """US dollars that a month may cost with every pool at its largest; the policies block what costs more."""

    protect: bool | None = None
    """Whether what holds data cannot be destroyed by Pulumi. Default: in production."""

    permissions_boundary: PolicyArn | None = None
    """IAM policy that bounds every role that is made here, where the account demands one."""

    tags: dict[TagKey, TagValue] = Field(default_factory=dict)
    """On everything."""

    @model_validator(mode="after")
    def _zones_of_the_region(self) -> AwsPlatformConfig:
        foreign = [zone for zone in self.network.zones if not zone.startswith(self.region)]
        if foreign:
            raise broken_rule(
                f"network.zones has {foreign[0]}, which is not of {self.region}", "name zones of the region"
            )
        if len(set(self.network.zones)) != len(self.network.zones):
            raise broken_rule("each zone once", "drop the second from network.zones")
        return self

    kafka_key: ClassVar[str] = "kafka"

    images: ClassVar[tuple[str, ...]] = ("mlflow",)
    """Names of the images that the platform runs: MLflow's makes its user in the database."""

    @property
    def url(self) -> str:
        """Base address of the gateway, without a final slash."""
        return f"https://{self.gateway.host}"

    @property
    def internal(self) -> bool:
        """Whether only the VPC, and what is connected to it, reaches the gateway."""
        return self.gateway.internal

    @property
    def brokers(self) -> int:
        """Brokers of Kafka; a serverless one shows three."""
        if isinstance(self.kafka, ProvisionedKafkaConfig):
            return self.kafka.brokers_per_zone * len(self.network.zones)
        return 0 if self.kafka is None else SERVERLESS_BROKERS

    @property
    def gpus(self) -> dict[str, int]:
        """GPUs of each kind at most, over all pools."""
        found: dict[str, int] = {}
        for pool in self.gpu_pools.values():
            found[pool.accelerator] = found.get(pool.accelerator, 0) + pool.gpus
        return found
