"""The batcher with a model that the test holds by the hand: it answers when told to."""

import asyncio
import os
import queue
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.core.batcher import NICENESS, Batcher, BatchLimits, model_threads
from services.inference.core.errors import DeadlineExceeded, Overloaded, PredictionFailed, RequestTooLarge, ShuttingDown
from services.inference.core.pace import INLINE_SECONDS, Pace
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


class DoublingInPlace(Doubling):
    """As torch modules do that begin with an operation in place."""

    def __call__(self, batch, parameters):
        batch.numbers[:] *= 2
        return {"y": batch.numbers[:, 0]}


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


@pytest.mark.parametrize("limits", [BatchLimits(), BatchLimits(inline=False), BatchLimits(max_rows=2)])
def test_a_model_may_write_to_its_rows_and_the_callers_stay_as_they_were(limits):
    asked = rows(1, 2, 3)

    async def scenario():
        batcher = Batcher(DoublingInPlace(), limits)
        answers = [(await batcher.infer(asked))["y"].tolist() for _ in range(2)]
        await batcher.close(5)
        return answers

    assert asyncio.run(scenario()) == [[2, 4, 6], [2, 4, 6]]
    assert asked.numbers[:, 0].tolist() == [1, 2, 3], "a shadow and the prediction log see them after the model"


async def queued(batcher, *submissions, **options):
    """Start submissions and let each get as far as the queue."""
    tasks = [asyncio.create_task(batcher.infer(*each, **options)) for each in submissions]
    await asyncio.sleep(0)
    return tasks


async def test_an_idle_batcher_sends_a_single_request_at_once():
    model = Doubling()
    answer = await Batcher(model, BatchLimits()).infer(rows(3))
    assert answer["y"].tolist() == [6]


async def test_what_arrives_while_the_model_works_leaves_together():
    model = Held()
    batcher = Batcher(model, BatchLimits(inline=False))
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
    batcher = Batcher(model, BatchLimits(inline=False))
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
    batcher = Batcher(model, BatchLimits(inline=False, max_rows=4, max_queued_rows=4))
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
    batcher = Batcher(model, BatchLimits(inline=False))
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
    batcher = Batcher(model, BatchLimits(inline=False, max_rows=1))
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
    batcher = Batcher(model, BatchLimits(inline=False, max_rows=1))
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


def now():
    return asyncio.get_running_loop().time()


async def test_what_one_turn_of_the_event_loop_brings_to_an_idle_model_leaves_together():
    model = Doubling()
    batcher = Batcher(model, BatchLimits())
    await asyncio.gather(*[batcher.infer(rows(value)) for value in range(4)])
    assert [batch for batch, _ in model.batches] == [[0, 1, 2, 3]]


async def test_a_batch_that_is_known_to_be_quick_runs_on_the_event_loops_thread_and_a_slow_one_does_not():
    threads = []

    def model(batch, _):
        threads.append(threading.current_thread() is threading.main_thread())
        return {"y": batch.numbers[:, 0]}

    pace = Pace()
    pace.observe(1, INLINE_SECONDS / 10)
    pace.observe(100, INLINE_SECONDS * 10)
    batcher = Batcher(model, BatchLimits(), pace)
    await batcher.infer(rows(1))
    await batcher.infer(rows(*range(100)))
    assert threads == [True, False]


async def test_a_request_past_its_deadline_leaves_the_queue_while_the_model_works():
    model = Held()
    batcher = Batcher(model, BatchLimits(inline=False))
    first = await queued(batcher, (rows(1),))
    await model.has_begun()
    (late,) = await queued(batcher, (rows(2),), deadline=now() + 0.01)
    (patient,) = await queued(batcher, (rows(3),), deadline=now() + 60)
    with pytest.raises(DeadlineExceeded):
        await late
    assert batcher.waiting_rows == 1
    for _ in range(2):
        model.release.release()
    await asyncio.gather(*first, patient)
    assert [batch for batch, _ in model.batches] == [[1], [3]], "the model never sees the late row"


async def test_a_request_whose_time_is_over_or_will_be_is_refused_before_it_waits():
    pace = Pace()
    pace.observe(4, 1.0)
    model = Held()
    batcher = Batcher(model, BatchLimits(inline=False, max_rows=4), pace)
    with pytest.raises(DeadlineExceeded):
        await batcher.infer(rows(1), deadline=now() - 1)
    first = await queued(batcher, (rows(*range(4)),))
    await model.has_begun()
    waiting = await queued(batcher, *[(rows(*range(4)),) for _ in range(3)])
    with pytest.raises(Overloaded, match="ms of work are waiting") as caught:
        await batcher.infer(rows(1), deadline=now() + 2)
    assert 3 <= caught.value.retry_after <= 4, "when what waits now will be done"
    for _ in range(4):
        model.release.release()
    await asyncio.gather(*first, *waiting)


async def test_a_smaller_priority_goes_first_and_within_one_the_oldest():
    model = Held()
    batcher = Batcher(model, BatchLimits(inline=False, max_rows=1))
    first = await queued(batcher, (rows(0),))
    await model.has_begun()
    later = await queued(batcher, (rows(1),), (rows(2),), priority=0)
    sooner = await queued(batcher, (rows(3),), (rows(4),), priority=-1)
    for _ in range(5):
        model.release.release()
    await asyncio.gather(*first, *later, *sooner)
    assert [batch for batch, _ in model.batches] == [[0], [3], [4], [1], [2]]


async def test_a_batch_keeps_to_its_bytes_and_a_large_request_is_cut_to_them():
    model = Held()
    batcher = Batcher(model, BatchLimits(inline=False, max_bytes=32))  # four rows of one float64
    first = await queued(batcher, (rows(0),))
    await model.has_begun()
    waiting = await queued(batcher, (rows(1, 2, 3),), (rows(4, 5),), (rows(*range(10)),))
    for _ in range(8):
        model.release.release()
    answers = await asyncio.gather(*first, *waiting)
    assert answers[-1]["y"].tolist() == [2 * value for value in range(10)]
    assert max(len(batch) for batch, _ in model.batches) <= 4


async def test_a_batch_is_cut_at_the_largest_bucket_it_fills():
    model = Held()
    batcher = Batcher(model, BatchLimits(inline=False, max_rows=16, buckets=(1, 4, 8)))
    first = await queued(batcher, (rows(0),))
    await model.has_begun()
    waiting = await queued(batcher, *[(rows(value),) for value in range(1, 14)])
    for _ in range(5):
        model.release.release()
    await asyncio.gather(*first, *waiting)
    assert [len(batch) for batch, _ in model.batches] == [1, 8, 4, 1]


@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=12))
def test_a_padded_model_sees_its_buckets_only_and_callers_see_none_of_the_padding(sizes):
    model = Doubling()

    async def scenario():
        batcher = Batcher(model, BatchLimits(max_rows=8, buckets=(2, 8), pad=True))
        requests = [rows(*(index * 100.0 + at for at in range(size))) for index, size in enumerate(sizes)]
        for asked, answer in zip(requests, await asyncio.gather(*map(batcher.infer, requests)), strict=True):
            assert answer["y"].tolist() == (asked.numbers[:, 0] * 2).tolist()
        await batcher.close(5)

    asyncio.run(scenario())
    assert {len(batch) for batch, _ in model.batches} <= {2, 8}


@pytest.mark.parametrize(
    "limits",
    [{"buckets": (4, 2)}, {"buckets": (0, 2)}, {"buckets": (2048,)}, {"pad": True}, {"pad": True, "buckets": (4,)}],
)
def test_buckets_that_cannot_be_kept_are_refused(limits):
    with pytest.raises(ValueError, match="→"):
        BatchLimits(**limits)


async def test_a_model_that_ends_its_thread_fails_its_callers_and_the_next_ones_are_answered():
    calls = []

    def model(batch, _):
        calls.append(len(batch))
        if len(calls) == 1:
            raise SystemExit(3)
        return {"y": batch.numbers[:, 0]}

    batcher = Batcher(model, BatchLimits())
    with pytest.raises(PredictionFailed, match="SystemExit"):
        await batcher.infer(rows(1))
    assert (await batcher.infer(rows(2)))["y"].tolist() == [2]


async def test_an_idle_model_is_tried_however_slow_it_was_when_it_was_last_measured():
    pace = Pace()
    pace.observe(1, 60.0)
    model = Held()
    batcher = Batcher(model, BatchLimits(inline=False), pace)
    deadline = asyncio.get_running_loop().time() + 5
    first = asyncio.create_task(batcher.infer(rows(1), deadline=deadline))
    await model.has_begun()
    with pytest.raises(Overloaded, match="work are waiting"):
        await batcher.infer(rows(2), deadline=deadline)
    model.release.release()
    assert (await first)["y"].tolist() == [2]
    assert pace.expected(1) < 60


@pytest.mark.parametrize(
    ("seconds", "largest"),
    [
        ({1: 0.001, 2: 0.001, 4: 0.001, 8: 0.001}, 8),  # a batch costs what a row does
        ({1: 0.01, 2: 0.02, 4: 0.04, 8: 0.08}, 1),  # nothing to win
        ({1: 0.01, 2: 0.012, 4: 0.016, 8: 0.06}, 4),  # beyond the caches
        ({1: 1e-6, 2: 2e-6, 4: 4e-6, 8: 8e-6}, 8),  # the batch's own cost is shared
    ],
)
def test_batches_grow_as_far_as_it_pays(seconds, largest):
    assert BatchLimits(max_rows=8).at_best(seconds).max_rows == largest
    padded = BatchLimits(max_rows=8, buckets=(1, 2, 4, 8), pad=True).at_best(seconds)
    assert (padded.max_rows, padded.buckets[-1]) == (largest, largest)


def test_every_size_up_to_the_largest_is_measured():
    assert BatchLimits(max_rows=6).sizes() == (1, 2, 4, 6)
    assert BatchLimits(max_rows=8).sizes() == (1, 2, 4, 8)
    assert BatchLimits(max_rows=1).sizes() == (1,)
    assert BatchLimits(max_rows=8, buckets=(3, 8)).sizes() == (3, 8)


async def test_an_accepted_request_is_not_made_late_by_those_that_came_after_it():
    pace = Pace()
    for size, seconds in ((1, 0.1), (2, 0.2), (4, 0.4), (8, 0.8)):
        pace.learn(size, seconds)
    model = Held()
    batcher = Batcher(model, BatchLimits(inline=False, max_rows=8), pace)
    first = await queued(batcher, (rows(0),))
    await model.has_begun()
    (urgent,) = await queued(batcher, (rows(1),), deadline=now() + 0.9)
    patient = await queued(batcher, *[(rows(value),) for value in range(2, 8)])
    for _ in range(3):
        model.release.release()
    await asyncio.gather(*first, urgent, *patient)
    assert [batch for batch, _ in model.batches] == [[0], [1, 2, 3, 4], [5, 6, 7]], "eight rows would have taken 0.8 s"


def test_the_pace_of_one_size_tells_of_the_others():
    pace = Pace()
    assert (pace.expected(1), pace.at_most(1)) == (None, 0.0)
    for size, seconds in ((1, 1.0), (4, 2.0), (8, 4.0)):
        pace.learn(size, seconds)
    assert [pace.expected(size) for size in (1, 2.5, 4, 6, 8, 16)] == [1.0, 1.5, 2.0, 3.0, 4.0, 8.0]
    for _ in range(40):
        pace.observe(8, 12.0)
    assert pace.expected(1) == pytest.approx(3.0, rel=0.01)
    assert pace.at_most(1) == pytest.approx(3.0, rel=0.05), "steady: nothing to allow for"
    for seconds in (6.0, 18.0) * 20:
        pace.observe(8, seconds)
    assert pace.at_most(1) > 1.5 * pace.expected(1), "restless"


def test_sizes_far_from_any_measured_are_learnt_from_the_first_batch():
    pace = Pace()
    pace.observe(1, 1.0)
    pace.observe(100, 2.0)
    assert (pace.expected(1), pace.expected(100), pace.expected(200)) == (1.0, 2.0, 4.0)


def test_a_model_that_stalls_the_event_loop_goes_to_the_thread_for_a_while():
    pace = Pace()
    pace.learn(1, INLINE_SECONDS / 10)
    assert pace.inline(1)
    pace.observe(1, 1.0, inline=True)
    assert pace.inline(1), "one long batch is the machine's"
    while pace.inline(1):
        pace.observe(1, 1.0, inline=True)
    away = 0
    while not pace.inline(1):
        pace.observe(1, 0.05)  # beside a busy loop: slow, but that is not the model's
        away += 1
    assert 10 < away < 200
    pace.observe(1, INLINE_SECONDS / 10, inline=True)
    assert pace.inline(1)


def test_many_rows_are_cut_to_what_may_run_inline():
    pace = Pace()
    assert pace.most_inline(256, 256) == 256, "nothing is known"
    for size in (1, 64, 256):
        pace.learn(size, size * INLINE_SECONDS / 100)
    assert pace.most_inline(256, 256) == 64
    slow = Pace()
    slow.learn(1, 5 * INLINE_SECONDS)
    assert slow.most_inline(256, 256) == 256, "on the thread whole batches are best"


def test_rows_that_cost_much_less_together_are_not_cut():
    pace = Pace()
    for size in (1, 64, 256):
        pace.learn(size, INLINE_SECONDS * (0.5 + size / 200))
    assert pace.most_inline(256, 256) == 256
    assert pace.most_inline(256, 65) == 64, "one row more is not worth the thread's turn"


async def test_a_model_of_two_lanes_has_two_batches_at_once_and_never_three():
    model = Held()
    batcher = Batcher(model, BatchLimits(inline=False, max_rows=2, lanes=2))
    first = await queued(batcher, (rows(1),))
    await model.has_begun()
    second = await queued(batcher, (rows(2),))
    await model.has_begun()
    waiting = await queued(batcher, (rows(3),), (rows(4),), (rows(5),))
    assert batcher.waiting_rows == 3
    for _ in range(5):
        model.release.release()
    found = await asyncio.gather(*first, *second, *waiting)
    assert [each["y"].tolist() for each in found] == [[2], [4], [6], [8], [10]]
    assert sorted(len(batch) for batch, _ in model.batches) == [1, 1, 1, 2]


@pytest.mark.parametrize(("given", "kept"), [(0, NICENESS), (15, 15)], ids=["usual", "rays"])
def test_a_models_thread_yields_and_takes_back_nothing_of_what_its_process_yields_already(given, kept):
    found = []

    def ask():
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), given)
        # A thread begins as nice as the one that starts it.
        with model_threads(1) as threads:
            found.append(threads.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [kept]
