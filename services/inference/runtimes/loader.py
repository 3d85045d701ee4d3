"""The catalog's loader: fetch, verify, load, warm up, measure."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.inference.core.catalog import Loaded
from services.inference.core.pipeline import Pipeline
from services.inference.core.schema import ModelInfo
from services.inference.runtimes.detect import import_framework, load_runtime
from services.inference.runtimes.sources.fetch import Origin, fetch, locate

if TYPE_CHECKING:
    from services.inference.core.batcher import BatchLimits
    from services.inference.core.catalog import ModelSpec
    from services.inference.core.pipeline import Observer


@dataclass(frozen=True, kw_only=True)
class ArtifactLoader:
    """Loads models from where their URIs point, through the cache."""

    cache: Path
    release: str
    limits: BatchLimits
    torch_threads: int
    observer: Observer | None = None
    tracking_uri: str | None = None
    s3_endpoint_url: str | None = None

    def load(self, spec: ModelSpec) -> Loaded:
        """Blocks; errors are `LoadError`.

        The bytes are what the process grew by, its GPU memory included, and at least those of the artifact: an
        allocator that had room left grows by less than the model takes.
        """
        artifact = fetch(self._origin(spec), self.cache)
        import_framework(artifact)  # its hundreds of megabytes are every model's, not this one's
        before = _resident_bytes()
        runtime = load_runtime(artifact, self.torch_threads)
        info = ModelInfo(
            name=spec.name,
            version=artifact.version,
            release=self.release,
            digest=artifact.digest,
            metadata=runtime.metadata,
        )
        pipeline = Pipeline(runtime, info, self.limits, self.observer)
        pipeline.warm_up()
        size = sum(path.stat().st_size for path in artifact.directory.rglob("*") if path.is_file())
        return Loaded(pipeline, max(_resident_bytes() - before, size))

    def current_version(self, spec: ModelSpec) -> str | None:
        """What an alias points at now; None for what never moves."""
        if "@" not in spec.uri or spec.version is not None:
            return None
        return locate(self._origin(spec)).version

    def _origin(self, spec: ModelSpec) -> Origin:
        return Origin(
            uri=spec.uri,
            digest=spec.digest,
            version=spec.version,
            tracking_uri=self.tracking_uri,
            s3_endpoint_url=self.s3_endpoint_url,
        )


def release_memory() -> None:
    """Give what a model that is gone has left to the system: the C library keeps freed memory for itself."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _resident_bytes() -> int:
    """Memory of this process, with what it has on GPUs."""
    release_memory()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        resident += sum(torch.cuda.memory_allocated(device) for device in range(torch.cuda.device_count()))
    return resident
