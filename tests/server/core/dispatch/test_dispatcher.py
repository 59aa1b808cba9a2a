from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertstream.server.core.dispatch import Dispatcher, Job, Outcome, cut
from bertstream.server.core.dispatch import attempts as attempts_module
from bertstream.server.core.dispatch import dispatcher as dispatcher_module
from bertstream.server.core.dispatch import link as link_module
from bertstream.server.core.dispatch.attempts import MAX_DEATHS
from bertstream.workers.contract import BULK, INTERACTIVE, Failure, Result, Spans, Work
from tests.support.fake_worker import FakeWorker, echo
from tests.support.waiting import until
from tests.support.works import MEAN, make_batch

MakeWorkers = Callable[[int], Awaitable[list[FakeWorker]]]
Dispatch = Callable[..., Awaitable[tuple[Dispatcher, list[FakeWorker]]]]
KILLER = 666


@pytest.fixture
async def dispatch(make_workers: MakeWorkers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Dispatch]:
    """Yield a function that makes a dispatcher of `count` fake workers, all alive."""
    monkeypatch.setattr(link_module, "RECONNECT_SECONDS", 0.005)
    monkeypatch.setattr(attempts_module, "QUEUE_FULL_SECONDS", 0.005)
    monkeypatch.setattr(dispatcher_module, "MIN_PIECE_TOKENS", 4)
    made: list[Dispatcher] = []

    async def make(count: int, *, wait: float = 20.0) -> tuple[Dispatcher, list[FakeWorker]]:
        workers = await make_workers(count)
        dispatcher = Dispatcher([str(worker.path) for worker in workers], wait, lambda: None)
        made.append(dispatcher)
        await asyncio.wait_for(dispatcher.wait_live(), 20)
        return dispatcher, workers

    yield make
    for dispatcher in made:
        await dispatcher.close()
    await asyncio.sleep(0.01)


def job(lengths: list[int], **options: Any) -> Job:
    return Job(make_batch(lengths), MEAN, **options)


def values(outcomes: list[Outcome]) -> list[float]:
    """Return the first id of each text, as the workers echo it, and check that the outcomes follow one another."""
    ends = [outcome.start + outcome.texts for outcome in outcomes]
    assert [outcome.start for outcome in outcomes] == [0, *ends[:-1]]
    return [value for outcome in outcomes for value in outcome.tensors["pooled"].ravel().tolist()]


def starts(lengths: list[int]) -> list[float]:
    return [1.0 + sum(lengths[:i]) for i in range(len(lengths))]


def reasons(outcomes: list[Outcome]) -> list[str]:
    """Return the reason of each text's error, or "ok"."""
    found: list[str] = []
    for outcome in outcomes:
        found += [outcome.error.reason if outcome.error else "ok"] * outcome.texts
    return found


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 30), st.booleans())
def test_cutting(lengths: list[int], tokens: int, type_ids: bool) -> None:
    batch = make_batch(lengths, type_ids=type_ids)
    pieces = cut(batch, tokens)
    for first, piece in pieces:
        assert piece.ids.size == piece.lengths.sum()
        assert piece.ids.size <= tokens or piece.lengths.size == 1
        assert piece.lengths.tolist() == lengths[first : first + piece.lengths.size]
        assert (piece.type_ids is None) == (batch.type_ids is None)
    np.testing.assert_array_equal(np.concatenate([piece.ids for _, piece in pieces]), batch.ids)
    if batch.type_ids is not None:
        joined = [piece.type_ids for _, piece in pieces if piece.type_ids is not None]
        np.testing.assert_array_equal(np.concatenate(joined), batch.type_ids)
    for (_, one), (_, other) in itertools.pairwise(pieces):
        assert one.ids.size + other.lengths[0] > tokens  # no piece had room for the next text


@pytest.mark.parametrize("with_ids", [True, False])
def test_spans_go_with_their_texts(with_ids: bool) -> None:
    counts, starts, lengths, ids = ([2, 0, 1, 3], [0, 1, 2, 0, 3, 4], [1, 2, 1, 1, 1, 2], [7, 8, 9, 10, 11, 12])
    column = np.array(ids, np.int32) if with_ids else None
    made = Spans(np.array(counts, np.int32), np.array(starts, np.int32), np.array(lengths, np.int32), column)
    batch = replace(make_batch([3, 2, 3, 9]), spans=made)
    spans = [piece.spans for _, piece in cut(batch, 5)]
    assert [each.counts.tolist() for each in spans if each] == [[2, 0], [1], [3]]
    assert [each.starts.tolist() for each in spans if each] == [[0, 1], [2], [0, 3, 4]]
    assert [each.lengths.tolist() for each in spans if each] == [[1, 2], [1], [1, 1, 2]]
    found = [None if each.ids is None else each.ids.tolist() for each in spans if each]
    assert found == ([[7, 8], [9], [10, 11, 12]] if with_ids else [None] * 3)


async def test_a_small_job_goes_whole_to_one_worker(dispatch: Dispatch) -> None:
    dispatcher, workers = await dispatch(2)
    outcomes = await dispatcher.run(job([1, 2]))
    assert values(outcomes) == starts([1, 2])
    assert sorted(len(worker.works) for worker in workers) == [0, 1]
    assert (outcomes[0].queue_seconds, outcomes[0].compute_seconds) == (0.1, 0.2)


async def test_a_large_job_is_shared_out(dispatch: Dispatch) -> None:
    dispatcher, workers = await dispatch(3)
    lengths = [4] * 30
    assert values(await dispatcher.run(job(lengths))) == starts(lengths)
    assert [sum(work.batch.ids.size for work in worker.works) for worker in workers] == [40, 40, 40]


async def test_no_piece_is_larger_than_a_batch(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)
    await worker.kill()
    await until(lambda: not dispatcher.live)
    worker.batch_tokens, worker.interactive_tokens = 10, 7
    await worker.start()
    await asyncio.wait_for(dispatcher.wait_live(), 20)
    lengths = [3] * 9
    for priority in (BULK, INTERACTIVE):
        assert values(await dispatcher.run(job(lengths, priority=priority))) == starts(lengths)
    assert [work.batch.ids.size for work in worker.works] == [
        9,
        9,
        9,
        6,
        6,
        6,
        6,
        3,
    ]  # others do not wait for bulk work


async def test_bulk_work_stays_whole(dispatch: Dispatch) -> None:
    dispatcher, workers = await dispatch(2)
    await dispatcher.run(job([4] * 30, priority=BULK))
    assert sorted(len(worker.works) for worker in workers) == [0, 1]


async def test_the_least_loaded_worker_gets_the_next_piece(dispatch: Dispatch) -> None:
    dispatcher, workers = await dispatch(2)
    for worker in workers:
        worker.answer = lambda _: None
    tasks = [asyncio.create_task(dispatcher.run(job([tokens], priority=BULK))) for tokens in (10, 3, 3, 3, 3)]
    await until(lambda: sum(len(worker.works) for worker in workers) == 5)
    assert [[work.batch.ids.size for work in worker.works] for worker in workers] == [[10, 3], [3, 3, 3]] or [
        [work.batch.ids.size for work in worker.works] for worker in workers
    ] == [[10], [3, 3, 3, 3]]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_work_that_only_waited_goes_to_another_worker(dispatch: Dispatch) -> None:
    dispatcher, workers = await dispatch(2)
    workers[0].answer = workers[1].answer = lambda _: None
    running = asyncio.create_task(dispatcher.run(job([1, 2])))
    await until(lambda: any(worker.works for worker in workers))
    held = [worker for worker in workers if worker.works]
    other = next(worker for worker in workers if worker is not held[0])
    other.answer = echo
    await held[0].kill()
    assert values(await running) == starts([1, 2])
    assert not other.works[0].alone
    assert [work.admitted for work in (held[0].works[0], other.works[0])] == [False, True]


async def test_work_waits_for_a_worker_to_come_back(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)
    worker.answer = lambda _: None
    running = asyncio.create_task(dispatcher.run(job([1])))
    await worker.wait_for(1)
    await worker.kill()
    await until(lambda: not dispatcher.live)
    worker.answer = echo
    await worker.start()
    assert values(await running) == [1.0]


async def test_the_wait_begins_when_the_worker_goes(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1, wait=0.05)
    worker.answer = lambda _: None
    running = asyncio.create_task(dispatcher.run(job([1])))
    await worker.wait_for(1)
    await asyncio.sleep(0.1)  # longer than the wait, which does not begin while the worker lives
    dispatcher.worker_wait_seconds = 60.0
    await worker.kill()
    worker.answer = echo
    await worker.start()
    assert values(await running) == [1.0]


async def test_nobody_alive_is_said_after_the_wait(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1, wait=0.02)
    await worker.kill()
    await until(lambda: not dispatcher.live)
    assert reasons(await dispatcher.run(job([1, 2], priority=BULK))) == ["WORKER_LOST"] * 2


async def test_a_deadline_during_the_wait_is_a_deadline(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)
    await worker.kill()
    await until(lambda: not dispatcher.live)
    deadline = time.monotonic() + 0.02
    assert reasons(await dispatcher.run(job([1], deadline=deadline))) == ["DEADLINE_EXCEEDED"]


async def test_cancelling_reaches_every_worker(dispatch: Dispatch) -> None:
    dispatcher, workers = await dispatch(2)
    for worker in workers:
        worker.answer = lambda _: None
    running = asyncio.create_task(dispatcher.run(job([4] * 10)))
    for worker in workers:
        await worker.wait_for(1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: all(worker.cancelled for worker in workers))


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("expired", "DEADLINE_EXCEEDED"),
        ("queue_full", "OVERLOADED"),
        ("overloaded", "OVERLOADED"),
        ("out_of_memory", "OUT_OF_MEMORY"),
    ],
)
async def test_failures_of_one_text(dispatch: Dispatch, reason: Any, expected: str) -> None:
    dispatcher, [worker] = await dispatch(1)
    worker.answer = lambda work: Failure(work.id, reason, "why")
    assert reasons(await dispatcher.run(job([1]))) == [expected]
    assert len(worker.works) == 1


async def test_when_to_try_again_is_what_the_worker_says(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)
    worker.answer = lambda work: Failure(work.id, "overloaded", "it would be late", 0.75)
    [outcome] = await dispatcher.run(job([1, 1], priority=BULK))
    assert outcome.error is not None
    assert (outcome.error.reason, outcome.error.retry_seconds) == ("OVERLOADED", 0.75)
    assert len(worker.works) == 1


async def test_a_text_that_fails_fails_alone(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)

    def answer(work: Work) -> Result | Failure:
        return Failure(work.id, "internal", "no") if 3 in work.batch.ids else echo(work)

    worker.answer = answer
    outcomes = await dispatcher.run(job([1, 1, 1, 1], priority=BULK))
    assert reasons(outcomes) == ["ok", "ok", "INTERNAL", "ok"]
    assert [outcome.texts for outcome in outcomes] == [1, 1, 1, 1]


async def test_a_refusal_is_not_tried_text_by_text(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)
    worker.answer = lambda work: Failure(work.id, "expired", "late")
    assert reasons(await dispatcher.run(job([1] * 5, priority=BULK))) == ["DEADLINE_EXCEEDED"] * 5
    assert len(worker.works) == 1


async def test_bulk_work_waits_while_the_queue_is_full(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)
    worker.answer = lambda work: Failure(work.id, "queue_full", "no") if len(worker.works) < 4 else echo(work)
    assert values(await dispatcher.run(job([1, 2], priority=BULK))) == starts([1, 2])
    assert len(worker.works) == 4


async def _keep_alive(dispatcher: Dispatcher, worker: FakeWorker, deaths: list[list[int]], *, killer: int) -> None:
    """Let the worker die of the killer, and replace it, for as long as the test runs."""
    loop = asyncio.get_running_loop()
    dying: asyncio.Queue[list[int]] = asyncio.Queue()

    def answer(work: Work) -> Result | None:
        if killer not in work.batch.ids:
            return echo(work)
        loop.call_soon(dying.put_nowait, [work.id])
        deaths.append(work.batch.lengths.tolist())
        return None

    worker.answer = answer
    while True:
        running = await dying.get()
        await worker.kill(running)
        await until(lambda: not dispatcher.live)
        await worker.start()


async def test_an_input_that_kills_workers_is_refused_and_its_neighbours_are_not(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)
    deaths: list[list[int]] = []
    keeper = asyncio.create_task(_keep_alive(dispatcher, worker, deaths, killer=3))
    try:
        outcomes = await asyncio.wait_for(dispatcher.run(job([1] * 5, priority=BULK)), 20)
    finally:
        keeper.cancel()
    assert reasons(outcomes) == ["ok", "ok", "POISONOUS_INPUT", "ok", "ok"]
    assert [outcome.tensors["pooled"].item() for outcome in outcomes if not outcome.error] == [1, 2, 4, 5]
    assert deaths == [[1] * 5] + [[1]] * (MAX_DEATHS - 1)
    assert all(work.alone for work in worker.works[1:])


async def test_as_many_workers_have_died_as_the_error_says(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)
    deaths: list[list[int]] = []
    keeper = asyncio.create_task(_keep_alive(dispatcher, worker, deaths, killer=2))
    await asyncio.sleep(0)
    alone = worker.answer
    worker.answer = lambda work: alone(work) if work.batch.lengths.size == 1 else Failure(work.id, "internal", "no")
    try:
        outcomes = await asyncio.wait_for(dispatcher.run(job([1] * 3, priority=BULK)), 20)
    finally:
        keeper.cancel()
    assert reasons(outcomes) == ["ok", "POISONOUS_INPUT", "ok"]
    assert outcomes[1].error is not None
    assert outcomes[1].error.message.startswith(f"{len(deaths)} workers died")


async def test_a_worker_killed_by_something_else_loses_nothing(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)
    deaths: list[list[int]] = []
    keeper = asyncio.create_task(_keep_alive(dispatcher, worker, deaths, killer=3))
    running = asyncio.create_task(dispatcher.run(job([1] * 5, priority=BULK)))
    await until(lambda: deaths)
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)
    worker.answer = echo
    if dispatcher.live:
        await worker.kill([1])
    await until(lambda: not dispatcher.live)
    await worker.start()
    assert values(await asyncio.wait_for(running, 20)) == starts([1] * 5)


async def test_changes_are_told(make_workers: MakeWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "RECONNECT_SECONDS", 0.005)
    told: list[int] = []
    workers = await make_workers(2)
    dispatcher = Dispatcher([str(each.path) for each in workers], 1.0, lambda: told.append(len(dispatcher.live)))
    await asyncio.wait_for(dispatcher.wait_live(), 20)
    await workers[0].kill()
    await until(lambda: len(told) == 3)
    assert told == [1, 2, 1]
    assert dispatcher.workers == 2
    await dispatcher.close()
    await asyncio.sleep(0.01)
