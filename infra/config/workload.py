"""What models of every kind have: a reference into the registry, resources, variables of their own."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from infra.config.accelerators import ACCELERATORS, AcceleratorName, Placement, placement, whole_gpus
from infra.config.base import ConfigModel, EnvName, Quantity, broken_rule
from services.contract import Env

PROGRAMS_ENV = frozenset(
    {
        Env.MODEL_NAME,
        Env.MODEL_URI,
        Env.MODEL_DIGEST,
        Env.MODEL_VERSION,
        Env.RELEASE,
        Env.CACHE_DIR,
        Env.TORCH_THREADS,
        Env.MLFLOW_TRACKING_URI,
        Env.MLFLOW_DIRECT_DOWNLOAD,
        Env.HTTP_PORT,
        Env.GRPC_PORT,
        Env.HTTP_HOST,
        Env.COMPARE_URL,
        Env.COMPARE_SHARE,
        Env.PREDICTION_LOG,
        Env.PREDICTION_LOG_SHARE,
        Env.PREDICTION_LOG_REDACT,
        Env.SHADOW_URI,
        Env.SHADOW_DIGEST,
        Env.STREAM_BROKERS,
        Env.STREAM_INPUT,
        Env.STREAM_OUTPUT,
        Env.STREAM_DEAD_LETTER,
        Env.STREAM_GROUP,
        Env.STREAM_WORKER,
        Env.STREAM_GUARANTEE,
        Env.STREAM_BATCH_ROWS,
        Env.STREAM_BATCH_MS,
        Env.STREAM_COMMIT_MS,
        Env.BATCH_INPUT,
        Env.BATCH_OUTPUT,
        Env.BATCH_PASSTHROUGH,
        Env.BATCH_QUARANTINE_SHARE,
        Env.BATCH_PART_ROWS,
        Env.BATCH_ENGINE,
        Env.BATCH_WORKERS,
        Env.BATCH_WORKER_GPUS,
        Env.BATCH_DAY,
        Env.BATCH_TIMEZONE,
        Env.BATCH_JOB_NAME,
        Env.BATCH_JOB_UID,
        Env.BATCH_RAYJOB,
        Env.BATCH_TIMESTAMP,
    }
)
"""Variables that the program sets itself or that probes and Services rely on; the contract's others may be tuned."""


def _not_the_programs(variable: str) -> str:
    if variable in PROGRAMS_ENV:
        raise broken_rule("the program sets this variable itself", "use the key that stands for it, or drop it")
    return variable


def _splittable(reference: str) -> str:
    # Checked here and not by the pattern so that the message can say what a reference looks like.
    name, at, alias = reference.removeprefix("models:/").partition("@")
    version = None if at else name.rpartition("/")[2]
    named = bool(name) if at else bool(name.rpartition("/")[0])
    if not reference.startswith("models:/") or not named or not (alias or (version or "").isdigit()):
        raise broken_rule(
            "a registered model with a version or an alias", "write models:/<name>/<version> or models:/<name>@<alias>"
        )
    return reference


ModelReference = Annotated[str, AfterValidator(_splittable)]
"""`models:/<name>/<version>` or `models:/<name>@<alias>`, resolved in the registry at preview."""

ExtraEnvName = Annotated[EnvName, AfterValidator(_not_the_programs)]
"""A variable of the model's own."""


class ResourcesConfig(ConfigModel):
    """What one replica gets."""

    cpu: Quantity = "250m"
    """Cores that are reserved for it."""

    cpu_limit: Quantity = "2"
    """Cores it may use at most; torch gets as many threads, at least one."""

    memory: Quantity = "1Gi"
    """Memory, reserved and limited alike: a replica never dies of its neighbours' appetite."""

    gpu: Annotated[int, Field(ge=1, le=16)] | None = None
    """GPUs, or parts of one where `gpuShare` says so."""

    accelerator: AcceleratorName | None = None
    """Which GPU it is: the replica runs on nodes that have it, and only there."""

    gpu_share: str | None = None
    """`shared` for a GPU that others use at the same time, or a MIG profile (`1g.10gb`) for a part of its own."""

    @model_validator(mode="after")
    def _a_gpu_is_one_that_there_is(self) -> ResourcesConfig:
        if self.gpu is not None and self.accelerator is None:
            raise broken_rule("a GPU of a kind", f"set accelerator to one of: {', '.join(ACCELERATORS)}")
        if self.gpu is None and (self.accelerator is not None or self.gpu_share is not None):
            raise broken_rule("says which GPU, and asks for none", "set gpu to how many, or drop it")
        _ = self.placement  # raises where the GPU has no such part
        return self

    @property
    def placement(self) -> Placement | None:
        """Where its GPUs are to be had; None without any."""
        if self.gpu is None or self.accelerator is None:
            return None
        return placement(self.accelerator, self.gpu, self.gpu_share)

    @property
    def whole_gpus(self) -> dict[str, str | int] | None:
        """Which GPUs one replica takes, and how many whole ones at least; of shared ones the one it has a turn on."""
        if self.gpu is None or self.accelerator is None:
            return None
        return {
            "accelerator": self.accelerator,
            "count": whole_gpus(self.accelerator, self.gpu, self.gpu_share),
        }
