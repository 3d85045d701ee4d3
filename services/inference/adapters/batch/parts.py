"""One part: decode → predict → write, each on a thread of its own, in memory that the part's size does not change."""

from __future__ import annotations

import tempfile
import threading
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from services.inference.adapters.batch import columns, table
from services.inference.adapters.batch.inputs import corrupt
from services.inference.adapters.batch.overlap import ahead
from services.inference.adapters.batch.quarantine import Quarantine

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from services.inference.adapters.batch.inputs import Part, Slice
    from services.inference.adapters.batch.stores import Store
    from services.inference.adapters.batch.table import Job, PartRecord
    from services.inference.core.pipeline import Pipeline
    from services.inference.core.scoring import Scored
    from services.inference.core.types import Rows

READ_ROWS, READ_BYTES = 16_384, 16 * 1024 * 1024
"""Of one batch between the stages, whichever is less: large enough that a batch's fixed costs vanish, small enough
that the dozen of them that exist at a time are a fraction of what torch takes."""

GROUP_ROWS, GROUP_BYTES = 131_072, 64 * 1024 * 1024
"""Of a row group of the output, whichever comes first: it is held until it is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What every part of a job needs."""

    pipeline: Pipeline
    source: Store
    output: Store
    job: Job
    schema: pa.Schema
    """Columns that are read: the model's, those that are passed through, partitions after them."""
    passed: tuple[str, ...]
    """Names of those that the output has, too."""
    scratch: Path
    """Directory for the part that is being written."""
    advance: Callable[[int, int, int, str], None] = field(default=lambda *_: None)
    """Told after every batch of a part: its number, its rows scored and refused so far, the first that was refused.
    What it raises ends the part."""
    turn: threading.Lock = field(default_factory=threading.Lock)
    """The model takes one batch at a time; parts that overlap take turns."""

    @property
    def result(self) -> pa.Schema:
        """Columns of the output."""
        passed = pa.schema([self.schema.field(name) for name in self.passed])
        return columns.result_schema(passed, self.pipeline.info)


class _Read(NamedTuple):
    batch: pa.RecordBatch
    file: str
    row: int
    """Number of the batch's first row in the file."""
    rows: Rows


class _Predicted(NamedTuple):
    read: _Read
    scored: Scored


def score_part(work: Work, part: Part) -> PartRecord:
    """Read, score and write a part, and record it. Errors are `BatchError`."""
    with tempfile.TemporaryDirectory(dir=work.scratch, prefix="part-") as scratch:
        written, refused = Path(scratch) / "rows.parquet", Path(scratch) / "refused.parquet"
        with (
            output_writer(written, work.result) as writer,
            Quarantine(refused, work.schema) as quarantine,
            closing(ahead(_predicted(work, ahead(_read(work, part))))) as stages,
        ):
            rows = _write(work, part, stages, writer, quarantine)
        place = partial(table.place, work.output, work.job)
        size = written.stat().st_size
        key, sha256 = place(written, f"part-{part.number:05}") if rows else (None, "")
        kept, kept_sha256 = place(refused, f"quarantine-{part.number:05}") if quarantine.rows else (None, "")
    record = table.PartRecord(
        number=part.number,
        key=key,
        rows=rows,
        bytes=size if rows else 0,
        sha256=sha256,
        refused=quarantine.rows,
        quarantine=kept,
        quarantine_sha256=kept_sha256,
        reasons=dict(quarantine.reasons),
        first_reason=quarantine.first,
    )
    return table.keep(work.output, work.job, record)


def output_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Dictionaries for texts and what is the same in every row: for numbers that vary they take most of the time.

    LZ4, because zstd would take longer for a tenth less of them than a small model takes to predict (ADR 22).
    """
    texts = {pa.string(), pa.large_string()}
    repeating = [
        each.name
        for each in schema
        if each.type in texts or pa.types.is_dictionary(each.type) or each.name == columns.TIMESTAMP
    ]
    return pq.ParquetWriter(path, schema, use_dictionary=repeating, compression="lz4")


def _read(work: Work, part: Part) -> Generator[_Read, None, None]:
    model = work.pipeline.info.metadata.schema
    for piece in part.slices:
        row = piece.first_row
        for batch in _batches(work, piece):
            yield _Read(batch, piece.file.key, row, columns.to_rows(batch, model))
            row += batch.num_rows


def _batches(work: Work, piece: Slice) -> Generator[pa.RecordBatch, None, None]:
    """A slice's batches with their partitions; a batch ends where a row group or the bound on its size says."""
    file = piece.file
    partitions = {name: value for name, value in file.partitions if name in work.schema.names}
    stored = [name for name in work.schema.names if name not in partitions]
    at_once = max(1, min(READ_ROWS, READ_BYTES // max(1, file.row_bytes)))
    try:
        with work.source.open(file.key) as content, pq.ParquetFile(content, pre_buffer=True) as parquet:
            held = set(parquet.schema_arrow.names)
            stored += [name for name in partitions if name in held]
            for batch in _stored(parquet, piece, at_once, stored):
                yield pa.RecordBatch.from_arrays(
                    [
                        batch.column(field.name)
                        if field.name in stored
                        else pa.array([partitions[field.name]] * batch.num_rows, pa.string()).cast(field.type)
                        for field in work.schema
                    ],
                    schema=work.schema,
                )
    except (pa.ArrowException, OSError) as error:
        raise corrupt(f"{work.source.uri}/{file.key}", error) from error


def _stored(
    parquet: pq.ParquetFile, piece: Slice, at_once: int, names: list[str]
) -> Generator[pa.RecordBatch, None, None]:
    """Batches of the columns that the file has; one row group at a time is in memory, since it is read ahead whole.

    On this stage's thread alone: Arrow's own would take the cores that the model and the writer are on.
    """
    for group in piece.groups:
        yield from parquet.iter_batches(at_once, row_groups=[group], columns=names, use_threads=False)


def _predicted(work: Work, items: Generator[_Read, None, None]) -> Generator[_Predicted, None, None]:
    with closing(items):
        for read in items:
            with work.turn:
                (scored,) = work.pipeline.infer_many([read.rows])
            yield _Predicted(read, scored)


def _write(
    work: Work,
    part: Part,
    stages: Generator[_Predicted, None, None],
    writer: pq.ParquetWriter,
    quarantine: Quarantine,
) -> int:
    """Write what was scored as row groups, and the rest to the quarantine; rows that were scored."""
    result = work.result
    group: list[pa.RecordBatch] = []
    rows = 0
    for (batch, file, row, _), scored in stages:
        quarantine.add(batch, file, row, scored.refused)
        if len(scored.kept):
            kept = batch if not scored.refused else batch.take(pa.array(scored.kept))
            passed = [kept.column(name) for name in work.passed]
            group.append(columns.to_result(passed, scored.outputs, result, work.pipeline.info, work.job.timestamp))
            rows += len(scored.kept)
        if sum(each.num_rows for each in group) >= GROUP_ROWS or sum(each.nbytes for each in group) >= GROUP_BYTES:
            writer.write_table(pa.Table.from_batches(group))
            group = []
        work.advance(part.number, rows, quarantine.rows, quarantine.first)
    if group:
        writer.write_table(pa.Table.from_batches(group))
    return rows
