"""A model without a framework, and tables for it."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.inference.core.batcher import BatchLimits
from services.inference.core.errors import InvalidValue
from services.inference.core.pipeline import Pipeline
from services.inference.core.schema import Feature, Kind, ModelInfo, ModelMetadata, Schema, TensorSpec
from services.inference.core.types import Rows

AT = datetime(2026, 11, 26, 2, 0, tzinfo=UTC)

SCHEMA = Schema(
    features=(
        Feature(name="amount"),
        Feature(name="count", kind=Kind.INTEGER),
        Feature(name="site", kind=Kind.TEXT, nullable=True),
    )
)
OUTPUTS = (TensorSpec(name="probability", datatype="FP32"), TensorSpec(name="prediction", datatype="INT64"))


class HalfTheAmount:
    """Probability is half of `amount`; the prediction whether that is above a quarter."""

    def __init__(self, poison: float | None = None):
        self.metadata = ModelMetadata(
            platform="test", schema=SCHEMA, outputs=OUTPUTS, score="probability", example=SCHEMA.zeros()
        )
        self.poison = poison
        self.largest = 0

    def transform(self, rows):
        for row, site in enumerate(rows.texts[:, 0]):
            if site == "nowhere":
                raise InvalidValue(f"feature 'site' is 'nowhere' in row {row}", "it is a place", "correct it")
        return Rows(rows.numbers)

    def predict(self, rows, parameters):
        self.largest = max(self.largest, len(rows))
        amounts = rows.numbers[:, 0]
        if self.poison is not None and (amounts == self.poison).any():
            raise ZeroDivisionError("poison")
        probability = (amounts / 2).astype(np.float32)
        return {"probability": probability, "prediction": (probability > 0.25).astype(np.int64)}

    def close(self):
        pass


def pipeline_of(runtime=None, *, most_rows=64, version="7"):
    runtime = runtime or HalfTheAmount()
    info = ModelInfo(
        name="halves", version=version, release="r", digest="sha256:" + "d" * 64, metadata=runtime.metadata
    )
    return Pipeline(runtime, info, BatchLimits(max_rows=most_rows))


def rows(many, start=0, /, **columns):
    """A table of so many rows; given columns replace those of the same name."""
    numbers = np.arange(start, start + many)
    made = {
        "id": pa.array(numbers),
        "amount": pa.array(numbers % 100 / 100),
        "count": pa.array(numbers % 7),
        "site": pa.array([f"s{number % 3}" for number in numbers], pa.string()),
    }
    return pa.table({**made, **columns})


def write(directory, tables, *, group_rows=100):
    """Files by name below a directory."""
    for name, table in tables.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=group_rows)
    return directory
