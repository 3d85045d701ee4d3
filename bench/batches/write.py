"""Floor: one file's results, in memory, written as the job writes them and digested, as often as there are files."""

from __future__ import annotations

import hashlib
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from bench.batches.clock import timed
from bench.batches.model import batches, pipeline
from services.inference.adapters.batch.columns import result_schema, to_result, to_rows
from services.inference.adapters.batch.parts import GROUP_ROWS, output_writer


def results(path: Path) -> list[pa.RecordBatch]:
    """One file, scored."""
    model = pipeline()
    read = batches(path)
    scored = model.infer_many(to_rows(batch, model.info.metadata.schema) for batch in read)
    schema = result_schema(read[0].schema, model.info)
    now = datetime.now(UTC)
    return [
        to_result(batch.columns, each.outputs, schema, model.info, now)
        for batch, each in zip(read, scored, strict=True)
    ]


def run(table: pa.Table, files: int, output: Path) -> int:
    """Rows that were written."""
    for number in range(files):
        path = output / f"{number:04}.parquet"
        with output_writer(path, table.schema) as written:
            written.write_table(table, GROUP_ROWS)
        with path.open("rb") as content:
            hashlib.file_digest(content, "sha256")
    return files * len(table)


if __name__ == "__main__":
    source, output = Path(sys.argv[1]), Path(sys.argv[2])
    files = sorted(source.iterdir())
    table = pa.Table.from_batches(results(files[0]))
    timed(lambda: run(table, len(files), output))
