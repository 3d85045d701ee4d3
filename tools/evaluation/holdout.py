"""The data that a model is evaluated on: a table of features and a target, of a file or of the artifact itself."""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tools.steps import StepError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OWN_FILE, OWN_TARGET = "holdout.csv", "target"
"""File of an artifact that brings its own holdout, and the column in it that holds the labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdout:
    """Rows that training has not seen, with what is true of them."""

    source: str
    """The file's name, as people gave it."""
    sha256: str
    """Of the file, in hex."""
    target: str
    columns: dict[str, list[Any]]
    """Values by feature; a missing one is None."""
    labels: list[Any]


def given(path: Path, target: str | None) -> Holdout:
    """A file of the caller's, CSV or Parquet by its name."""
    if target is None:
        raise StepError(f"--data {path}: no target → a column holds the labels → name it with --target")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StepError(f"--data {path}: {error.strerror} → CSV or Parquet → name another file") from error
    return _read(path.name, content, target)


def own(artifact: Path) -> Holdout:
    """The holdout that an artifact brings."""
    found = sorted(artifact.rglob(OWN_FILE))
    if not found:
        raise StepError(
            f"the artifact has no {OWN_FILE} → a model is measured on data it has not seen → "
            "name some with --data FILE --target COLUMN"
        )
    return _read(f"{OWN_FILE} of the artifact", found[0].read_bytes(), OWN_TARGET)


def _read(source: str, content: bytes, target: str) -> Holdout:
    import pandas as pd  # noqa: PLC0415  # half a second

    parquet = source.endswith((".parquet", ".pq"))
    try:
        frame = (pd.read_parquet if parquet else pd.read_csv)(io.BytesIO(content))
    except (ValueError, OSError, ImportError) as error:
        raise StepError(f"{source}: {error} → CSV or Parquet → correct it") from error
    if target not in frame.columns or len(frame) == 0:
        names = ", ".join(map(str, frame.columns[:10]))
        raise StepError(f"{source}: {len(frame)} rows of {names} → has rows and column {target!r} → correct --target")
    labels = frame.pop(target).tolist()
    return Holdout(
        source=source,
        sha256=hashlib.sha256(content).hexdigest(),
        target=target,
        columns={str(name): [_plain(value) for value in frame[name].tolist()] for name in frame.columns},
        labels=labels,
    )


def _plain(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def chunks(count: int, size: int) -> Sequence[range]:
    """Ranges of at most `size` that cover `count` rows."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
