"""The batcher with a model that the test holds by the hand: it answers when told to."""

import asyncio
import queue
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.core.batcher import Batcher, BatchLimits
from services.inference.core.errors import Overloaded, PredictionFailed, RequestTooLarge, ShuttingDown
from services.inference.core.types import Rows


def rows(*values: float) -> Rows:
    return Rows(np.array(values, dtype=np.float64).reshape(-1, 1))


class Doubling:
    """Answers each row times two; remembers its batches."""

    def __init__(self):
        self.batches = []

    def __call__(self, batch, parameters):
        self.batches.append((batch.numbers[:, 0].tolist(), parameters))
        return {"y": batch.numbers[:, 0] * 2}


class Held(Doubling):
    """Waits in every call until it is released; says when a call has begun."""

    def __init__(self):
        super().__init__()
        self.begun = queue.Queue()
        self.release = threading.Semaphore(0)

    def __call__(self, batch, parameters):
        self.begun.put(len(batch))
        assert self.release.acquire(timeout=20), "the test never released the model"
        return super().__call__(batch, parameters)

    async def has_begun(self):
        return await asyncio.to_thread(self.begun.get, timeout=20)


class HeldAndFailing(Held):
    """Raises for a batch that holds 13."""

    def __call__(self, batch, parameters):
        answer = super().__call__(batch, parameters)
        if 13 in batch.numbers:
            raise ValueError("secret path /etc/passwd")
        return answer


async def queued(batcher, *submissions):
    """Start submissions and let each get as far as the queue."""
    tasks = [asyncio.create_task(batcher.infer(*each)) for each in submissions]
    await asyncio.sleep(0)
    return tasks


async def test_an_idle_batcher_sends_a_single_request_at_once():
    model = Doubling()
    answer = await Batcher(model, BatchLimits()).infer(rows(3))
    assert answer["y"].tolist() == [6]


async def test_what_arrives_while_the_model_works_leaves_together():
    model = Held()
    batcher = Batcher(model, BatchLimits())
    first = await queued(batcher, (rows(1),))
    await model.has_begun()
    waiting = await queued(batcher, *[(rows(value),) for value in (2, 3, 4)])
    assert batcher.waiting_rows == 3
    for _ in range(2):
        model.release.release()
    answers = await asyncio.gather(*first, *waiting)
    assert [answer["y"].tolist() for answer in answers] == [[2], [4], [6], [8]]
    assert [batch for batch, _ in model.batches] == [[1], [2, 3, 4]]


async def test_requests_of_different_parameters_never_share_a_batch():
    model = Held()
    batcher = Batcher(model, BatchLimits())
    first = await queued(batcher, (rows(1),))
    await model.has_begun()
    a, b = (("mode", "a"),), (("mode", "b"),)
    waiting = await queued(batcher, (rows(2), a), (rows(3), b), (rows(4), a))
    for _ in range(3):
        model.release.release()
    await asyncio.gather(*first, *waiting)
    assert model.batches[1:] == [([2, 4], a), ([3], b)]


async def test_a_cancelled_request_leaves_the_queue_and_frees_its_rows():
    model = Held()
    batcher = Batcher(model, BatchLimits(max_rows=4, max_queued_rows=4))
    first = await queued(batcher, (rows(1),))
    await model.has_begun()
    doomed, kept = await queued(batcher, (rows(2, 3, 4),), (rows(5),))
    with pytest.raises(Overloaded):
        await batcher.infer(rows(6))
    doomed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doomed
    assert batcher.waiting_rows == 1
    later = await queued(batcher, (rows(6),))
    for _ in range(2):
        model.release.release()
    await asyncio.gather(*first, kept, *later)
    assert [batch for batch, _ in model.batches] == [[1], [5, 6]], "the model never sees the cancelled rows"


async def test_a_request_larger_than_the_queue_is_told_so_and_a_full_queue_says_try_again():
    batcher = Batcher(Doubling(), BatchLimits(max_rows=2, max_queued_rows=4))
    with pytest.raises(RequestTooLarge, match="at most 4 rows"):
        await batcher.infer(rows(*range(5)))
    assert (await batcher.infer(rows(*range(4))))["y"].tolist() == [0, 2, 4, 6], "cut in two, put together in order"


async def test_one_callers_bad_row_fails_that_caller_only():
    model = HeldAndFailing()
    batcher = Batcher(model, BatchLimits())
    first = await queued(batcher, (rows(1),))
    await model.has_begun()
    waiting = await queued(batcher, (rows(2),), (rows(13),), (rows(4),))
    for _ in range(5):
        model.release.release()
    answers = await asyncio.gather(*first, *waiting, return_exceptions=True)
    assert [a["y"].tolist() for a in (answers[0], answers[1], answers[3])] == [[2], [4], [8]]
    assert isinstance(answers[2], PredictionFailed)
    assert "passwd" not in str(answers[2]), "what the model raised stays in the log"


async def test_an_answer_of_the_wrong_length_is_an_error_and_not_somebody_elses_rows():
    batcher = Batcher(lambda batch, _: {"y": batch.numbers[:-1, 0]}, BatchLimits())
    with pytest.raises(PredictionFailed, match="2 rows"):
        await batcher.infer(rows(1, 2))


async def test_close_lets_accepted_requests_finish_and_refuses_new_ones():
    model = Held()
    batcher = Batcher(model, BatchLimits(max_rows=1))
    accepted = await queued(batcher, (rows(1),), (rows(2),))
    await model.has_begun()
    closing = asyncio.create_task(batcher.close(20))
    await asyncio.sleep(0)
    with pytest.raises(ShuttingDown):
        await batcher.infer(rows(3))
    for _ in range(2):
        model.release.release()
    assert [answer["y"].tolist() for answer in await asyncio.gather(*accepted)] == [[2], [4]]
    await closing


async def test_close_ends_what_the_grace_period_leaves_in_an_error():
    model = Held()
    batcher = Batcher(model, BatchLimits(max_rows=1))
    accepted = await queued(batcher, (rows(1),), (rows(2),))
    await model.has_begun()
    await batcher.close(0)
    answers = await asyncio.gather(*accepted, return_exceptions=True)
    model.release.release()
    assert [type(answer) for answer in answers] == [ShuttingDown, ShuttingDown], "no request is left hanging"


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    max_rows=st.integers(1, 8),
    keys=st.lists(st.sampled_from("ab"), min_size=30, max_size=30),
)
def test_any_mix_of_requests_gets_its_own_rows_in_batches_within_the_limit(sizes, max_rows, keys):
    model = Doubling()

    async def scenario():
        batcher = Batcher(model, BatchLimits(max_rows=max_rows, max_queued_rows=1000))
        requests = [rows(*(index * 100.0 + at for at in range(size))) for index, size in enumerate(sizes)]
        submissions = [batcher.infer(request, (("key", key),)) for request, key in zip(requests, keys, strict=False)]
        answers = await asyncio.gather(*submissions)
        for request, answer in zip(requests, answers, strict=True):
            assert answer["y"].tolist() == (request.numbers[:, 0] * 2).tolist()
        await batcher.close(5)

    asyncio.run(scenario())
    assert all(len(batch) <= max_rows for batch, _ in model.batches), "a batch exceeds the limit"
    for batch, parameters in model.batches:
        owners = {int(value // 100) for value in batch}
        assert {keys[owner] for owner in owners} == {parameters[0][1]}, "a batch mixes parameters"
