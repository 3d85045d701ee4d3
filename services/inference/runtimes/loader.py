"""The catalog's loader: fetch, verify, load, warm up, measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.inference.core.catalog import Loaded
from services.inference.core.pipeline import Pipeline
from services.inference.core.schema import ModelInfo
from services.inference.runtimes import memory
from services.inference.runtimes.detect import import_framework, load_runtime
from services.inference.runtimes.sources.fetch import Origin, fetch, locate

if TYPE_CHECKING:
    from pathlib import Path

    from services.inference.core.batcher import BatchLimits
    from services.inference.core.catalog import ModelSpec
    from services.inference.core.pipeline import Observer
    from services.inference.runtimes.torch_module import TorchOptions


@dataclass(frozen=True, kw_only=True)
class ArtifactLoader:
    """Loads models from where their URIs point, through the cache."""

    cache: Path
    release: str
    limits: BatchLimits
    torch: TorchOptions
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
        memory.settle()
        before = memory.resident_bytes()
        runtime = load_runtime(artifact, self.torch)
        info = ModelInfo(
            name=spec.name,
            version=artifact.version,
            release=self.release,
            digest=artifact.digest,
            metadata=runtime.metadata,
        )
        pipeline = Pipeline(runtime, info, self.limits, self.observer)
        pipeline.warm_up()
        memory.settle()
        size = sum(path.stat().st_size for path in artifact.directory.rglob("*") if path.is_file())
        return Loaded(pipeline, max(memory.resident_bytes() - before, size))

    def reclaim(self) -> None:
        """Give back what a model that has gone still holds."""
        memory.release()

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
