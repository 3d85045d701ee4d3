"""The model as a job has it, and one file's batches."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from services.inference.batch import load
from services.inference.batch_settings import BatchSettings

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from services.inference.core.pipeline import Pipeline


@cache
def pipeline() -> Pipeline:
    """From the settings of this process's environment."""
    return load(BatchSettings())


def batches(path: Path) -> list[pa.RecordBatch]:
    """A file as the job's stages hand it on."""
    return list(pq.ParquetFile(path).iter_batches(16_384))
