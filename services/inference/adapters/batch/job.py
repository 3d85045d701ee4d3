"""A batch job, step by step; `flow` runs the steps as Prefect's tasks."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from services.inference.adapters.batch import columns, table
from services.inference.adapters.batch.errors import InvalidInput, Overtaken, TooManyRefused
from services.inference.adapters.batch.inputs import Part, Survey, digest_of, listed, parts_of, survey
from services.inference.adapters.batch.parts import READ_BYTES, READ_ROWS, Work, score_part
from services.inference.adapters.batch.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from services.inference.adapters.batch.progress import Progress
    from services.inference.adapters.batch.table import PartRecord
    from services.inference.core.pipeline import Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a job reads, writes and tolerates."""

    input: str
    output: str
    passthrough: tuple[str, ...] | None = None
    """Input columns that the output has, too; None for all."""
    quarantine_share: float = 0.0
    """Of the input's rows, how many may be refused."""
    part_rows: int = 1_000_000
    """Rows of a part at least."""
    timestamp: datetime
    """When this run began, or what is to stand for it."""
    scratch: Path
    s3_endpoint_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A job that has begun: what is to be done."""

    found: Survey
    work: Work
    parts: tuple[Part, ...]
    done: Mapping[int, PartRecord]
    """Parts that earlier runs have finished."""
    s3_endpoint_url: str | None

    @property
    def todo(self) -> list[Part]:
        """Parts that are left."""
        return [part for part in self.parts if part.number not in self.done]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The output is this very job's already."""

    manifest: Mapping[str, Any]


class Refusals:
    """Rows refused so far, by part: a part that is tried again counts once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._of: dict[int, int] = {}

    def set(self, part: int, rows: int, example: str = "") -> None:
        """So many of a part; `TooManyRefused` where all parts have more than may be."""
        with self._lock:
            self._of[part] = rows
            refused = sum(self._of.values())
        if refused > self._most:
            raise TooManyRefused(
                f"{refused} rows cannot be scored" + (f", the first: {example}" if example else ""),
                f"at most {self._most} may be refused",
                "correct them, or allow a larger share (quarantineShare)",
            )


@dataclass(kw_only=True)
class BatchJob:
    """A model, a job for it, and what became of it so far."""

    pipeline: Pipeline
    spec: Spec
    progress: Progress
    _plan: Plan | None = field(default=None, init=False)

    def prepare(self) -> Plan | Finished:
        """List and check the input, and begin, unless the output is there already. Nothing is read of the rows."""
        found, schema = survey(self.spec.input, self.spec.s3_endpoint_url)
        schema, passed = self._columns(schema, found.root)
        output = open_store(self.spec.output, self.spec.s3_endpoint_url)
        manifest, tag = table.read_manifest(output)
        identity = table.job_id(self._identity(found, passed))
        if manifest.get("job") == identity:
            table.sweep(output, manifest)
            return Finished(manifest=manifest)
        job = table.begin(output, identity, tag, self.spec.timestamp)
        refusals = Refusals(int(self.spec.quarantine_share * found.rows))
        work = Work(
            pipeline=self.pipeline,
            source=open_store(found.root, self.spec.s3_endpoint_url),
            output=output,
            job=job,
            schema=schema,
            passed=passed,
            scratch=self.spec.scratch,
            advance=self._advance(refusals),
        )
        done = table.records(output, job)
        plan = Plan(
            found=found,
            work=work,
            parts=tuple(parts_of(found, self.spec.part_rows)),
            done=done,
            s3_endpoint_url=self.spec.s3_endpoint_url,
        )
        self.progress.begin(found.rows)
        for record in done.values():
            work.advance(record.number, record.rows, record.refused, record.first_reason)
        self.progress.start()
        self._plan = plan
        return plan

    def score(self, plan: Plan, part: Part) -> PartRecord:
        """One part, from its rows to its record."""
        return score_part(plan.work, part)

    def commit(self, plan: Plan, records: Sequence[PartRecord]) -> dict[str, Any]:
        """Make the table appear; `Overtaken` where the input is not what was read any more."""
        _, entries = listed(self.spec.input, self.spec.s3_endpoint_url)
        if digest_of(entries) != plan.found.digest:
            table.abandon(plan.work.output, plan.work.job)
            raise Overtaken(f"{self.spec.input}: changed while it was read", "the input stays as it is", "run it again")
        return table.commit(plan.work.output, plan.work.job, records, self._described(plan))

    def abandon(self) -> None:
        """Remove what must not be committed; for errors that another try would meet again."""
        if self._plan is not None:
            table.abandon(self._plan.work.output, self._plan.work.job)

    def _columns(self, schema: pa.Schema, where: str) -> tuple[pa.Schema, tuple[str, ...]]:
        """Columns to read, and the names of those that are passed through."""
        model = self.pipeline.info.metadata.schema
        columns.check_schema(schema, model, where)
        passed = tuple(schema.names) if self.spec.passthrough is None else self.spec.passthrough
        for name in passed:
            if name not in schema.names:
                known = ", ".join(schema.names[:8])
                raise InvalidInput(f"passthrough {name!r}", f"a column of {where}", f"one of: {known}", field=name)
            if name in columns.ADDED:
                raise InvalidInput(
                    f"{where}: column {name!r}", "a job adds a column of that name", "name the others in passthrough"
                )
        wanted = {*passed, *(spec.name for spec in model.inputs)}
        return pa.schema([each for each in schema if each.name in wanted]), passed

    def _identity(self, found: Survey, passed: tuple[str, ...]) -> dict[str, Any]:
        """All that the bytes of the output depend on, but for its timestamp."""
        info = self.pipeline.info
        return {
            "model": [info.version, info.digest],
            "input": found.digest,
            "passthrough": passed,
            "partRows": self.spec.part_rows,
            "batches": [READ_ROWS, READ_BYTES, self.pipeline.step_rows],
        }

    def _described(self, plan: Plan) -> dict[str, Any]:
        info = self.pipeline.info
        return {
            "model": {"name": info.name, "version": info.version, "digest": info.digest},
            "input": {
                "uri": self.spec.input,
                "digest": plan.found.digest,
                "files": len(plan.found.files),
                "rows": plan.found.rows,
            },
            "columns": [{"name": each.name, "type": str(each.type)} for each in plan.work.result],
        }

    def _advance(self, refusals: Refusals) -> Callable[[int, int, int, str], None]:
        def advance(part: int, scored: int, refused: int, example: str) -> None:
            refusals.set(part, refused, example)
            self.progress.set(part, scored + refused)

        return advance
