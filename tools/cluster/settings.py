"""What a cluster was started with: kept beside its state, so that a later command starts the same."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tools import paths
from tools.cluster.gpus import Gpus

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of one cluster."""

    index: int
    """Which of the machine's clusters it is; see `Layout`."""
    gateway_port: int
    gpus: Gpus | None = None
    """GPUs that its node says it has."""

    @classmethod
    def read(cls, path: Path) -> Settings:
        """The settings in a file."""
        known = json.loads(path.read_text())
        gpus = known.get("gpus")
        return cls(
            index=known["index"], gateway_port=known["gateway_port"], gpus=None if gpus is None else Gpus(**gpus)
        )

    def write(self, path: Path) -> None:
        """Keep them."""
        paths.write_whole(path, json.dumps(asdict(self)).encode())
