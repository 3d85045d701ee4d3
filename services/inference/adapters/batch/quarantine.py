"""The table of rows that cannot be scored: where each came from, why, and its values as they were."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from services.inference.core.scoring import Refused

WHERE = (
    pa.field("source_file", pa.string()),
    pa.field("source_row", pa.int64()),
    pa.field("error", pa.string()),
    pa.field("message", pa.string()),
)
"""Columns before the row's own: the file below the input's address, the row's number in it from 0, the error's code,
and what is wrong. A column of the input that has one of these names is `row_<name>` here, and where the input has that
too, `row_row_<name>`."""


class Quarantine:
    """Writes the table of a part; without a row there is no file."""

    def __init__(self, path: Path, columns: pa.Schema) -> None:
        self._path = path
        self._schema = pa.schema([*WHERE, *_own(columns)])
        self._writer: pq.ParquetWriter | None = None
        self.rows = 0
        self.reasons: Counter[str] = Counter()
        self.first = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, batch: pa.RecordBatch, file: str, first_row: int, refused: Sequence[Refused]) -> None:
        """Write the refused rows of a batch, `first_row` being the number of its first row in the file."""
        if not refused:
            return
        self._writer = self._writer or pq.ParquetWriter(self._path, self._schema)
        # An error counts rows within what was tried at once, which says nothing here.
        messages = [str(each.error).replace(" in row 0", "") for each in refused]
        self.first = self.first or f"{file}, row {first_row + refused[0].row}: {messages[0]}"
        self.reasons.update(each.error.code for each in refused)
        self.rows += len(refused)
        values = batch.take(pa.array([each.row for each in refused], pa.int64()))
        where = [
            pa.array([file] * len(refused), pa.string()),
            pa.array([first_row + each.row for each in refused], pa.int64()),
            pa.array([each.error.code for each in refused], pa.string()),
            pa.array(messages, pa.string()),
        ]
        self._writer.write_table(pa.Table.from_arrays([*where, *values.columns], schema=self._schema))


def _own(columns: pa.Schema) -> Iterator[pa.Field]:
    """The input's columns, under names that nothing else has."""
    where = {field.name for field in WHERE}
    taken = where | set(columns.names)
    for field in columns:
        name = field.name
        while field.name in where and name in taken:
            name = f"row_{name}"
        yield field.with_name(name)
