"""GPUs as data: what a release asks for by an accelerator's name, and what that means to the scheduler.

A node pool carries `NODE_LABEL` with the name used here. It is a label of ours, as NVIDIA's own
(`nvidia.com/gpu.product`) changes with the form factor and with sharing (`…-SHARED`, `…-MIG-1g.5gb`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from infra.config.base import broken_rule

if TYPE_CHECKING:
    from collections.abc import Mapping

NODE_LABEL = "slipway.dev/accelerator"
"""On nodes with GPUs: which, by its name here."""

WHOLE = "nvidia.com/gpu"
"""Resource of whole GPUs; also the key of the taint on GPU nodes."""

SHARED_RESOURCE = f"{WHOLE}.shared"
"""Resource of time-sliced GPUs, as NVIDIA's device plugin names it with `renameByDefault`."""

SHARED = "shared"
"""The share of a GPU that others use at the same time: no memory of its own, no isolation."""

TAINT = {"key": WHOLE, "operator": "Exists", "effect": "NoSchedule"}
"""Toleration of the taint that keeps all else off GPU nodes."""


@dataclass(frozen=True)
class Instance:
    """An EC2 instance type with GPUs."""

    type: str
    gpus: int
    efa: bool = False
    """Whether its network adapter lets GPUs of several machines talk past the kernel (EFA with GPUDirect RDMA)."""


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """A GPU product."""

    memory_gb: int
    """As it is sold, in 10⁹ bytes."""
    instances: tuple[Instance, ...]
    """EC2 instance types that have it, the smallest first."""
    mig: Mapping[str, int] = field(default_factory=dict)
    """Profiles of NVIDIA's Multi-Instance GPU, and how many of each one GPU holds at most."""


_EIGHTY_GB = {"1g.10gb": 7, "1g.20gb": 4, "2g.20gb": 3, "3g.40gb": 2, "4g.40gb": 1, "7g.80gb": 1}

ACCELERATORS: Mapping[str, Accelerator] = {
    "nvidia-t4": Accelerator(
        memory_gb=16,
        instances=(
            Instance("g4dn.xlarge", 1),
            Instance("g4dn.2xlarge", 1),
            Instance("g4dn.4xlarge", 1),
            Instance("g4dn.12xlarge", 4),
        ),
    ),
    "nvidia-l4": Accelerator(
        memory_gb=24,
        instances=(
            Instance("g6.xlarge", 1),
            Instance("g6.2xlarge", 1),
            Instance("g6.4xlarge", 1),
            Instance("g6.12xlarge", 4),
            Instance("g6.48xlarge", 8),
        ),
    ),
    "nvidia-a10g": Accelerator(
        memory_gb=24,
        instances=(
            Instance("g5.xlarge", 1),
            Instance("g5.2xlarge", 1),
            Instance("g5.4xlarge", 1),
            Instance("g5.12xlarge", 4),
            Instance("g5.48xlarge", 8),
        ),
    ),
    "nvidia-l40s": Accelerator(
        memory_gb=48,
        instances=(
            Instance("g6e.xlarge", 1),
            Instance("g6e.2xlarge", 1),
            Instance("g6e.4xlarge", 1),
            Instance("g6e.12xlarge", 4),
            Instance("g6e.48xlarge", 8),
        ),
    ),
    # Profiles: NVIDIA MIG user guide, "Supported MIG profiles".
    "nvidia-a100-40gb": Accelerator(
        memory_gb=40,
        instances=(Instance("p4d.24xlarge", 8, efa=True),),
        mig={"1g.5gb": 7, "1g.10gb": 4, "2g.10gb": 3, "3g.20gb": 2, "4g.20gb": 1, "7g.40gb": 1},
    ),
    "nvidia-a100-80gb": Accelerator(memory_gb=80, instances=(Instance("p4de.24xlarge", 8, efa=True),), mig=_EIGHTY_GB),
    "nvidia-h100": Accelerator(
        memory_gb=80,
        instances=(Instance("p5.4xlarge", 1, efa=True), Instance("p5.48xlarge", 8, efa=True)),
        mig=_EIGHTY_GB,
    ),
    "nvidia-h200": Accelerator(
        memory_gb=141,
        instances=(Instance("p5en.48xlarge", 8, efa=True), Instance("p5e.48xlarge", 8, efa=True)),
        mig={"1g.18gb": 7, "1g.35gb": 4, "2g.35gb": 3, "3g.71gb": 2, "4g.71gb": 1, "7g.141gb": 1},
    ),
}
"""By the name that a stack file uses."""


def _known(name: str) -> str:
    if name not in ACCELERATORS:
        raise broken_rule("a GPU that is known", f"one of: {', '.join(ACCELERATORS)}")
    return name


AcceleratorName = Annotated[str, AfterValidator(_known)]
"""A key of `ACCELERATORS`."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What a pod needs to get its GPUs, as Kubernetes wants it."""

    resource: str
    """Extended resource; requests and limits are equal, as Kubernetes demands of these."""
    count: int
    node_selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, Any], ...]
    memory_gb: float | None
    """Memory that the pod has for itself, in 10⁹ bytes; None where it is shared."""


def placement(accelerator: str, count: int, share: str | None = None) -> Placement:
    """Where `count` GPUs of a kind are to be had: whole ones, `shared` ones, or parts by a MIG profile (`1g.10gb`).

    Raises the configuration's error where there is no such GPU or profile.
    """
    known = ACCELERATORS[_known(accelerator)]
    if share is None:
        resource, memory = WHOLE, float(known.memory_gb * count)
    elif share == SHARED:
        resource, memory = SHARED_RESOURCE, None
    elif share in known.mig:
        resource, memory = f"nvidia.com/mig-{share}", mig_memory_gb(share) * count
    else:
        parts = ", ".join((SHARED, *known.mig))
        raise broken_rule(f"a part of an {accelerator}", f"leave it out for whole GPUs, or one of: {parts}")
    return Placement(
        resource=resource,
        count=count,
        node_selector={NODE_LABEL: accelerator},
        tolerations=(TAINT,),
        memory_gb=memory,
    )


def instances(accelerator: str) -> tuple[Instance, ...]:
    """EC2 instance types that have it, the smallest first. Raises the configuration's error for an unknown one."""
    return ACCELERATORS[_known(accelerator)].instances


def whole_gpus(accelerator: str, count: int, share: str | None) -> int:
    """How many GPUs hold `count` of them at least; of shared ones as many as take turns, so that one is enough."""
    if share is None:
        return count
    return 1 if share == SHARED else -(-count // ACCELERATORS[accelerator].mig[share])


def mig_memory_gb(profile: str) -> float:
    """Memory of one part: `1g.10gb` is one of seven slices with 10 GB."""
    return float(profile.partition(".")[2].removesuffix("gb"))
