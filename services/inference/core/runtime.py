"""What a runtime is: the one interface between the pipeline and a framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from pathlib import Path

    from services.inference.core.schema import ModelMetadata
    from services.inference.core.types import Outputs, Parameters, Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A model's files on this machine, complete and ours alone to read."""

    directory: Path
    digest: str
    """`contract.directory_digest` of `directory`."""
    verified: bool
    """The digest was asked for by the release and matched: only then may a pickle be read."""
    version: str
    """The registry's version, or one made from the digest."""


class Runtime(Protocol):
    """A loaded model. `load` returns one that can answer: a half-loaded runtime does not exist.

    `transform` runs once per request, before batching, so that a row it refuses fails its
    own caller only. `predict` runs on batches, on as many threads at a time as `metadata.lanes` says.
    """

    @property
    def metadata(self) -> ModelMetadata:
        """What the model takes and gives."""

    @classmethod
    def load(cls, artifact: Artifact) -> Self:
        """Read the model from its files; `LoadError` where that cannot be done."""

    def transform(self, rows: Rows) -> Rows:
        """Feature rows → model input, row by row; `InvalidValue` for a row it cannot take."""

    def predict(self, rows: Rows, parameters: Parameters) -> Outputs:
        """Model input, the model's own to write to → named outputs with as many rows, which it does not use again."""

    def close(self) -> None:
        """Give the model's memory back; nothing is called afterwards."""
