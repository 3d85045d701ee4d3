"""The flow `batch_inference`: prepare → parts → commit, as Prefect's tasks.

A task is tried again after an error that may pass, three times, backing off. A part's task is cached on its inputs and
its result persisted in the cache directory; a run on another machine goes on from the records in the output.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from prefect import flow, task
from prefect.cache_policies import INPUTS, NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from services.inference.adapters.batch.errors import StoreUnavailable
from services.inference.adapters.batch.job import BatchJob, Finished, Plan
from services.inference.adapters.batch.table import PartRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefect import Task
    from prefect.futures import PrefectFuture

Engine = Literal["local", "ray"]

RETRIES = 3
RETRY_SECONDS = [1.0, 2.0, 4.0]
"""Before each try but the first: seven seconds in all, a store's restart."""

PARTS_AT_ONCE = 2
"""While one is written and uploaded the next is scored."""

Record = dict[str, Any]


def may_pass(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a failed task is worth another try."""
    return isinstance(state.result(raise_on_failure=False), StoreUnavailable)


def batch_inference(
    job: BatchJob, score_parts: Callable[[Plan], Iterator[PartRecord]] | None = None
) -> Callable[..., Any]:
    """The flow of a job. Its result is the manifest, and whether this run made it.

    `score_parts` stands for a cluster that scores the parts that are left; without it this process does, in tasks.
    """
    retried: Any = {"retries": RETRIES, "retry_delay_seconds": RETRY_SECONDS, "retry_condition_fn": may_pass}
    once: Any = {**retried, "cache_policy": NO_CACHE, "persist_result": False}
    plans: list[Plan] = []

    @task(name="prepare", **once)
    def prepare() -> Plan | Finished:
        return job.prepare()

    @task(name="score_part", cache_policy=INPUTS, persist_result=True, result_serializer="json", **retried)
    def score_part(token: str, number: int) -> Record:  # noqa: ARG001  # the token is of the cache's key
        plan = plans[0]
        return asdict(job.score(plan, plan.parts[number]))

    @task(name="score_parts", **once)
    def score_elsewhere() -> list[PartRecord]:
        return list(score_parts(plans[0])) if score_parts else []

    @task(name="commit", **once)
    def commit(records: list[PartRecord]) -> dict[str, Any]:
        return job.commit(plans[0], records)

    runner: Any = ThreadPoolTaskRunner(max_workers=PARTS_AT_ONCE)

    @flow(
        name="batch_inference",
        persist_result=False,
        task_runner=runner,
        validate_parameters=False,
    )
    def run(source: str, output: str, model: str) -> tuple[dict[str, Any], bool]:  # noqa: ARG001  # for people
        plan = prepare()
        if isinstance(plan, Finished):
            return dict(plan.manifest), False
        plans.append(plan)
        found = score_elsewhere() if score_parts else _in_order(score_part, plan)
        records = {**plan.done, **{record.number: record for record in found}}
        return commit([records[part.number] for part in plan.parts]), True

    return run


def _in_order(score_part: Task[[str, int], Record], plan: Plan) -> Iterator[PartRecord]:
    """Submit as many as run at a time; the next when the first of them has ended."""
    running: deque[PrefectFuture[Record]] = deque()
    for part in plan.todo:
        running.append(score_part.submit(plan.work.job.token, part.number))
        if len(running) >= PARTS_AT_ONCE:
            yield PartRecord(**running.popleft().result())
    while running:
        yield PartRecord(**running.popleft().result())
