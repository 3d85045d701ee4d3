"""The models that this process serves, and whether it takes requests.

One model for now. `get` is the only way to a pipeline, so that many models, versions and
lazy loading change this module and no adapter.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from services.inference.core.errors import ModelNotFound, NotReady, ShuttingDown

if TYPE_CHECKING:
    from services.inference.core.pipeline import Pipeline
    from services.inference.core.schema import ModelInfo


class State(StrEnum):
    """Life of the process: loading → ready → draining, never back."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


class Catalog:
    """Models by name and version. Belongs to the event loop."""

    def __init__(self, name: str, release: str) -> None:
        self.name = name
        self.release = release
        self.state = State.LOADING
        self._pipeline: Pipeline | None = None

    def add(self, pipeline: Pipeline) -> None:
        """Serve a model that is loaded and warmed up; from now on the process is ready."""
        self._pipeline = pipeline
        if self.state is State.LOADING:
            self.state = State.READY

    @property
    def info(self) -> ModelInfo | None:
        """What is served, None while nothing is."""
        return self._pipeline.info if self._pipeline else None

    def drain(self) -> None:
        """Not ready any more; requests that still arrive are answered while the process lives."""
        self.state = State.DRAINING

    def get(self, name: str | None = None, version: str | None = None) -> Pipeline:
        """The pipeline of a model; None means the process's own. `ModelNotFound`, `NotReady`, `ShuttingDown`."""
        if name is not None and name != self.name:
            raise ModelNotFound(
                f"model {name[:80]!r}", "this process serves one model", f"ask for {self.name!r}", field=name[:80]
            )
        if self._pipeline is None:
            raise self._not_ready()
        if version is not None and version != self._pipeline.info.version:
            raise ModelNotFound(
                f"version {version[:80]!r} of model {self.name!r}",
                "this process serves one version",
                f"ask for {self._pipeline.info.version!r} or leave it out",
                field=version[:80],
            )
        return self._pipeline

    def ready(self, name: str | None = None, version: str | None = None) -> None:
        """Return where new requests are welcome, raise as `get` does where not."""
        self.get(name, version)
        if self.state is not State.READY:
            raise self._not_ready()

    async def close(self, grace_seconds: float) -> None:
        """Finish accepted work and let the model go."""
        self.drain()
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            await pipeline.close(grace_seconds)

    def _not_ready(self) -> NotReady | ShuttingDown:
        if self.state is State.DRAINING:
            return ShuttingDown("the service is stopping", "it drains", "ask another replica")
        return NotReady(
            f"model {self.name!r} is being loaded", "it answers once it is warm", "ask again in a few seconds"
        )
