"""What a workload does with what its platform holds. Workloads say it, platforms see to it; neither knows the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pulumi

BucketRole: TypeAlias = Literal["models", "features", "predictions"]
"""What a bucket of the platform is for."""


@dataclass(frozen=True)
class Place:
    """Objects of a bucket whose keys begin with a prefix."""

    bucket: BucketRole
    prefix: str


@dataclass(frozen=True, kw_only=True)
class Needs:
    """All that a workload does there. What it does not say it may not do."""

    reads: Sequence[Place] = ()
    writes: Sequence[Place] = ()
    """Reads and removes, too: whoever writes a table finds out what is there."""
    appends: Sequence[Place] = ()
    """Puts objects there, and sees none."""
    consumes: Sequence[str] = ()
    """Topics that it reads as its group."""
    produces: Sequence[str] = ()
    """Topics that it writes; as a group, in transactions whose ids begin with the group."""
    group: str | None = None
    """Consumer group."""
    measures: Mapping[str, str] = field(default_factory=dict)
    """Topics by the group whose lag there it looks at."""
    declares: Sequence[str] = ()
    """Topics that it makes and changes."""
    lets: Mapping[str, Needs] = field(default_factory=dict)
    """What others need there, by account: with topics come the rights to them, where Kafka itself keeps those."""
    zones: Sequence[str] = ()
    """DNS zones, by the platform's id, whose records it makes and changes."""
    database: bool = False
    """Whether it signs in at MLflow's database."""


@dataclass(frozen=True, kw_only=True)
class Granted:
    """What the pods of a workload have to have for its needs to be met: parts of their manifests."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the pods: network policies of the platform go by them."""
    env: Sequence[dict[str, Any]] = ()
    """Of the container."""
    volumes: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    mounts: Mapping[str, str] = field(default_factory=dict)
    """Paths by volume."""
    after: Sequence[pulumi.Resource] = ()
    """What has to be there before the first pod is."""


class Access(Protocol):
    """The platform's side."""

    def grant(self, account: str, namespace: pulumi.Input[str], needs: Needs, opts: pulumi.ResourceOptions) -> Granted:
        """Lets pods of a service account do what they need. What that takes is declared with `opts`."""
