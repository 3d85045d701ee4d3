"""Parts scored on a Ray cluster: Ray Data hands them to actors that hold the model.

An actor does with a part what a job alone does, and writes it to the output itself: what is committed are the same
bytes, row for row, whoever scored them. Parts and their records are all that travels.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import signal
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from services.inference.adapters.batch.errors import BatchError, EngineFailed
from services.inference.adapters.batch.parts import Work, score_part
from services.inference.adapters.batch.stores import open_store
from services.inference.adapters.batch.table import PartRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    import pyarrow as pa

    from services.inference.adapters.batch.inputs import Part
    from services.inference.adapters.batch.job import Plan
    from services.inference.adapters.batch.table import Job
    from services.inference.core.pipeline import Pipeline

ADDRESS = "RAY_ADDRESS"
"""Ray's own variable: the cluster that the process is in. Without it one is started here, for this job."""

RETRIES = 3
"""Of a part whose worker was lost. Ray would try for ever, and a part that is too large loses every worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What an actor makes its `Work` of."""

    load: Callable[[], Pipeline]
    source: str
    output: str
    s3_endpoint_url: str | None
    job: Job
    schema: pa.Schema
    passed: tuple[str, ...]
    scratch: Path
    parts: tuple[Part, ...]


class Scorer:
    """An actor's state: the model, loaded once."""

    def __init__(self, shared: Shared) -> None:
        self._parts = shared.parts
        self._work = Work(
            pipeline=shared.load(),
            source=open_store(shared.source, shared.s3_endpoint_url),
            output=open_store(shared.output, shared.s3_endpoint_url),
            job=shared.job,
            schema=shared.schema,
            passed=shared.passed,
            scratch=shared.scratch,
        )

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Part numbers → their records as JSON, or what was wrong with a part: an error would end the whole cluster."""
        return {"told": [self._told(int(number)) for number in batch["number"]]}

    def _told(self, number: int) -> str:
        try:
            return json.dumps({"record": asdict(score_part(self._work, self._parts[number]))})
        except BatchError as error:
            return _told_error(error)


def score_on_ray(
    plan: Plan, load: Callable[[], Pipeline], workers: int, gpus: int, directory: Path
) -> Iterator[PartRecord]:
    """Records of the parts that are left, in any order; each worker has so many GPUs.

    Errors are `BatchError`; what was scored until then is kept. Ray prints to the standard output of its driver, and
    ends it where it loses its head: so the driver is a process of its own.
    """
    numbers = [part.number for part in plan.todo]
    if not numbers:
        return  # an earlier run has done all but the commit
    work = plan.work
    shared = Shared(
        load=load,
        source=work.source.uri,
        output=work.output.uri,
        s3_endpoint_url=plan.s3_endpoint_url,
        job=work.job,
        schema=work.schema,
        passed=work.passed,
        scratch=work.scratch,
        parts=plan.parts,
    )
    context = multiprocessing.get_context("spawn")
    told, telling = context.Pipe(duplex=False)
    driver = context.Process(target=_drive, args=(telling, shared, numbers, workers, gpus, directory))
    driver.start()
    telling.close()
    try:
        with suppress(EOFError):
            while True:
                yield _record(json.loads(told.recv()), plan)
        driver.join()
        if driver.exitcode:
            raise _failed(f"its driver ended with {driver.exitcode}")
    finally:
        driver.terminate()
        driver.join()
        if _own_cluster():
            shutil.rmtree(directory, ignore_errors=True)  # sockets and logs of the cluster that has ended


def _record(told: dict[str, Any], plan: Plan) -> PartRecord:
    if "error" in told:
        known = {each.__name__: each for each in BatchError.__subclasses__()}
        value, rule, remedy = told["message"].split(" → ", 2)
        raise known.get(told["error"], EngineFailed)(value, rule, remedy)
    record = PartRecord(**told["record"])
    plan.work.advance(record.number, record.rows, record.refused, record.first_reason)
    return record


def _drive(telling: Connection, shared: Shared, numbers: list[int], workers: int, gpus: int, directory: Path) -> None:
    """The driver's process: hands on what the actors tell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's goes to the job's process, too, which ends this one
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import ray  # noqa: PLC0415  # an extra

    try:
        with _cluster(workers, directory):
            ray.data.DataContext.get_current().enable_progress_bars = False
            parts = ray.data.from_items([{"number": number} for number in numbers], override_num_blocks=len(numbers))
            told = parts.map_batches(
                Scorer,
                fn_constructor_args=(shared,),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=min(workers, len(numbers))),
                num_cpus=1,
                num_gpus=gpus,
                max_task_retries=RETRIES,
            )
            for row in told.iter_rows():
                telling.send(row["told"])
    except EngineFailed as error:
        telling.send(_told_error(error))


def _told_error(error: BatchError) -> str:
    return json.dumps({"error": type(error).__name__, "message": str(error)})


def _own_cluster() -> bool:
    return not os.environ.get(ADDRESS)


@contextmanager
def _cluster(workers: int, directory: Path) -> Iterator[None]:
    """The cluster that this process is in, or one on this machine that ends with it."""
    import ray  # noqa: PLC0415

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    chosen: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if _own_cluster():
        chosen |= {"num_cpus": workers, "include_dashboard": False, "_temp_dir": str(directory)}
    try:
        ray.init(**chosen)
        yield
    except (ray.exceptions.RayError, ConnectionError, ValueError) as error:
        raise _failed(" ".join(str(error).split())[:200]) from error
    finally:
        ray.shutdown()


def _failed(reason: str) -> EngineFailed:
    return EngineFailed(f"Ray: {reason}", "its cluster stays up", f"look at the cluster of {ADDRESS}; run it again")
