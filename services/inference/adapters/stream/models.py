"""The model of a stream: loaded before the first message, changed between two transactions."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING

import structlog

from services.inference.adapters.stream.scoring import Scorer
from services.inference.core.errors import LoadError
from services.inference.core.shadow import Shadow

if TYPE_CHECKING:
    from services.inference.adapters.telemetry.metrics import Metrics
    from services.inference.core.catalog import Loaded, Loader, ModelSpec
    from services.inference.core.pipeline import Pipeline
    from services.inference.core.shadow import Answer
    from services.inference.core.types import Request

_log = structlog.stdlib.get_logger("slipway.stream")


class Beside:
    """A loaded model that sees a copy of the messages."""

    authoritative = False

    def __init__(self, pipeline: Pipeline) -> None:
        self.name = pipeline.info.name
        self._pipeline = pipeline

    def answer_for(self, live: Pipeline, request: Request) -> Answer | str | None:
        """Run the same rows, where it takes them."""
        if self._pipeline.info.metadata.schema != live.info.metadata.schema:
            return "incompatible"
        return partial(self._pipeline.run, request.rows, request.parameters)

    def close(self) -> None:
        """Give its memory back."""
        _close(self._pipeline)


class FollowedModel:
    """Where an alias moves, the new version is loaded beside the old one, and takes over when the worker asks next."""

    def __init__(self, spec: ModelSpec, loader: Loader, metrics: Metrics, refresh_seconds: float) -> None:
        self._spec = spec
        self._loader = loader
        self._metrics = metrics
        self._refresh_seconds = refresh_seconds
        self._asked = threading.Event()
        self._ended = False
        self._shadow: Shadow | None = None
        self._scorer: Scorer | None = None
        self._next: Scorer | None = None

    def load(self, shadow: ModelSpec | None) -> None:
        """Load, `LoadError` where that fails, and begin to follow. A shadow that cannot be loaded is done without."""
        if shadow is not None:
            try:
                beside = Beside(self._loader.load(shadow).pipeline)
            except LoadError as error:
                self._metrics.load_failed(shadow)
                _log.warning("the shadow is not loaded, the stream goes on without", error=str(error))
            else:
                self._shadow = Shadow(self._spec.name, beside, self._metrics)
        self._scorer = self._made(self._loader.load(self._spec))
        if "@" in self._spec.uri and self._spec.version is None:
            threading.Thread(target=self._follow, name="follow-alias", daemon=True).start()

    def current(self) -> Scorer:
        """The newest version that is loaded; what it replaces is closed."""
        if self._scorer is None:
            raise AssertionError("load() comes first")
        if self._next is not None:
            old, self._scorer, self._next = self._scorer, self._next, None
            _log.info("model swapped", old=old.pipeline.info.version, new=self._scorer.pipeline.info.version)
            _close(old.pipeline)
        return self._scorer

    def refresh(self) -> None:
        """Look at the alias now."""
        self._asked.set()

    def close(self) -> None:
        """Let every model go."""
        self._ended = True
        self._asked.set()
        if self._shadow is not None:
            self._shadow.close()

    def _made(self, loaded: Loaded) -> Scorer:
        pipeline = loaded.pipeline
        if self._shadow is not None:
            pipeline.mirrors = [self._shadow.see]
        info = pipeline.info
        _log.info("model loaded", model=info.name, version=info.version, digest=info.digest)
        return Scorer(pipeline, self._metrics)

    def _follow(self) -> None:
        while True:
            self._asked.wait(self._refresh_seconds)
            self._asked.clear()
            if self._ended:
                return
            newest = self._next or self._scorer
            try:
                version = self._loader.current_version(self._spec)
                if newest is not None and version not in (None, newest.pipeline.info.version):
                    self._next = self._made(self._loader.load(self._spec))
            except LoadError as error:
                self._metrics.load_failed(self._spec)
                _log.warning("model not refreshed, the old version goes on", error=str(error))


def _close(pipeline: Pipeline) -> None:
    asyncio.run(pipeline.close(0))
