from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertstream.server.core.dispatch import Dispatcher, NewTokens, generate
from bertstream.server.core.dispatch import attempts as attempts_module
from bertstream.server.core.dispatch import link as link_module
from bertstream.server.core.dispatch.attempts import MAX_DEATHS
from bertstream.server.core.dispatch.link import split_by_work
from bertstream.server.core.errors import RequestError
from bertstream.workers import ipc
from bertstream.workers.contract import BULK, Failure, Generate, Generated, GenerationOptions
from tests.support.fake_worker import FakeWorker
from tests.support.scripts import completed, generated, script
from tests.support.waiting import until
from tests.support.works import make_work

MakeWorkers = Callable[[int], Awaitable[list[FakeWorker]]]
Dispatch = Callable[..., Awaitable[tuple[Dispatcher, list[FakeWorker]]]]


@pytest.fixture
async def dispatch(make_workers: MakeWorkers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Dispatch]:
    """Yield a function that makes a dispatcher of `count` fake workers, all alive."""
    monkeypatch.setattr(link_module, "RECONNECT_SECONDS", 0.005)
    monkeypatch.setattr(attempts_module, "QUEUE_FULL_SECONDS", 0.005)
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


class Heard:
    """A sink that keeps the tokens that come, and wants no more after a number of them."""

    def __init__(self, enough: int = 1000) -> None:
        self.tokens: dict[int, list[int]] = {}
        self._enough = enough

    def __call__(self, new: NewTokens) -> bool:
        for sequence, token in zip(new.sequences.tolist(), new.tokens.tolist(), strict=True):
            self.tokens.setdefault(sequence, []).append(token)
        return sum(map(len, self.tokens.values())) < self._enough


def work(**options: Any) -> Generate:
    values: dict[str, Any] = {"max_new_tokens": 9, "stream": True} | options
    return Generate(0, np.array([1, 2, 3], np.int32), GenerationOptions(**values))


async def refused(running: Awaitable[Any]) -> str:
    with pytest.raises(RequestError) as raised:
        await asyncio.wait_for(running, 20)
    return raised.value.reason


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2), st.integers(0, 9)), max_size=20))
def test_tokens_are_split_by_work(rows: list[tuple[int, int, int]]) -> None:
    columns = np.array(rows, np.int64).reshape(-1, 3)
    scores = np.arange(len(rows), dtype=np.float32)
    message = Generated(columns[:, 0], columns[:, 1].astype(np.int32), columns[:, 2].astype(np.int32), scores)
    found = dict(split_by_work(message))
    assert sorted(found) == sorted({row[0] for row in rows})
    for work_id, new in found.items():
        expected = [(*row, score) for row, score in zip(rows, scores.tolist(), strict=True) if row[0] == work_id]
        listed = zip(new.sequences.tolist(), new.tokens.tolist(), new.scores.tolist(), strict=True)
        assert [(work_id, *each) for each in listed] == expected


async def test_tokens_come_and_the_end_last(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)
    worker.generate = script([5, 6, 7], [8])
    heard = Heard()
    finished = await generate(dispatcher, work(), 12, waits=False, sink=heard)
    assert heard.tokens == {0: [5, 6, 7], 1: [8]}
    assert finished.completed is not None
    assert finished.completed.tokens.tolist() == [5, 6, 7, 8]
    assert (finished.queue_seconds, finished.compute_seconds) == (0.1, 0.2)
    assert worker.generations[0].ids.tolist() == [1, 2, 3]
    assert not worker.generations[0].alone
    assert dispatcher.live[0].tokens == 0


async def test_without_a_sink_only_the_end_comes(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)
    worker.generate = script([5, 6])
    finished = await generate(dispatcher, work(), 12, waits=False)
    assert finished.completed is not None
    assert finished.completed.lengths.tolist() == [2]


async def test_several_share_a_connection(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)
    hears = [Heard() for _ in range(3)]
    running = [asyncio.create_task(generate(dispatcher, work(), 1, waits=False, sink=each)) for each in hears]
    await until(lambda: len(worker.generations) == 3)
    sent = [(1, 0, 4), (3, 0, 5), (1, 1, 6), (3, 0, 7), (99, 0, 1)]  # nobody waits for the last one
    columns = np.array(sent, np.int64)
    tokens = columns[:, 2].astype(np.int32)
    await worker.send(Generated(columns[:, 0], columns[:, 1].astype(np.int32), tokens, np.zeros(5, np.float32)))
    for each in worker.generations:
        await worker.send(completed(each, [[1]]))
    await asyncio.gather(*running)
    assert [each.tokens for each in hears] == [{0: [4], 1: [6]}, {}, {0: [5, 7]}]


async def test_who_has_enough_ends_the_work(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)
    worker.generate = lambda each: [generated(each.id, [token]) for token in (5, 6, 7)]
    heard = Heard(enough=2)
    finished = await generate(dispatcher, work(), 12, waits=False, sink=heard)
    assert finished.completed is None
    assert finished.compute_seconds > 0
    assert heard.tokens == {0: [5, 6]}
    await until(lambda: worker.cancelled == [1])
    assert dispatcher.live[0].tokens == 0


async def test_cancelling_reaches_the_worker(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)
    running = asyncio.create_task(generate(dispatcher, work(), 12, waits=False, sink=Heard()))
    await until(lambda: worker.generations)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: worker.cancelled == [1])
    await worker.send(generated(1, [5]))  # sent before the cancellation arrived
    await asyncio.sleep(0.01)
    assert dispatcher.live[0].tokens == 0


async def test_generations_count_as_load(dispatch: Dispatch) -> None:
    dispatcher, workers = await dispatch(2)
    costs = itertools.count(100)
    running = [asyncio.create_task(generate(dispatcher, work(), next(costs), waits=False)) for _ in range(2)]
    await until(lambda: all(worker.generations for worker in workers))
    assert sorted(link.tokens for link in dispatcher.live) == [100, 101]
    least = min(dispatcher.live, key=lambda link: link.tokens)
    assert await dispatcher.least_loaded(0.0, 0.0) is least
    call = asyncio.create_task(least.call(make_work(0, [3])))
    await call
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_a_lost_worker_is_replaced_and_its_tokens_are_not_passed_on_twice(dispatch: Dispatch) -> None:
    dispatcher, workers = await dispatch(2)
    for worker in workers:
        worker.generate = lambda each: [generated(each.id, [5, 8, 6], [0, 1, 0])]
    heard = Heard()
    running = asyncio.create_task(generate(dispatcher, work(), 12, waits=False, sink=heard))
    await until(lambda: heard.tokens)
    first = next(worker for worker in workers if worker.generations)
    second = next(worker for worker in workers if worker is not first)
    second.generate = script([5, 6, 7], [8, 9])
    await first.kill()
    finished = await asyncio.wait_for(running, 20)
    assert heard.tokens == {0: [5, 6, 7], 1: [8, 9]}
    assert finished.completed is not None
    assert not second.generations[0].alone  # the worker was not computing this when it died
    assert [worker.generations[0].admitted for worker in (first, second)] == [False, True]


async def test_other_tokens_of_another_worker_end_a_stream(dispatch: Dispatch) -> None:
    dispatcher, workers = await dispatch(2)
    for worker in workers:
        worker.generate = lambda each: [generated(each.id, [5])]
    heard = Heard()
    running = asyncio.create_task(generate(dispatcher, work(), 12, waits=False, sink=heard))
    await until(lambda: heard.tokens)
    first = next(worker for worker in workers if worker.generations)
    for worker in workers:
        worker.generate = script([4, 6, 7])
    await first.kill()
    assert await refused(running) == "WORKER_LOST"
    assert heard.tokens == {0: [5]}


def _came(worker: FakeWorker, count: int) -> bool:
    return len(worker.generations) >= count


async def test_an_input_that_kills_workers_is_refused(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)
    running = asyncio.create_task(generate(dispatcher, work(), 12, waits=True, sink=Heard()))
    for death in range(MAX_DEATHS):
        await until(partial(_came, worker, death + 1))
        await worker.kill([worker.generations[-1].id])
        await until(lambda: not dispatcher.live)
        await worker.start()
    assert await refused(running) == "POISONOUS_INPUT"
    assert [each.alone for each in worker.generations] == [False, True, True]
    assert [each.admitted for each in worker.generations] == [False, True, True]


async def test_nobody_alive_is_said_after_the_wait(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1, wait=0.02)
    running = asyncio.create_task(generate(dispatcher, work(), 12, waits=True, sink=Heard()))
    await until(lambda: worker.generations)
    await worker.kill()
    assert await refused(running) == "WORKER_LOST"


async def test_a_deadline_goes_along(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)
    worker.generate = lambda each: [Failure(each.id, "expired", "late")]
    deadline = time.monotonic() + 100
    late = Generate(0, np.array([1], np.int32), GenerationOptions(1), priority=BULK, deadline=deadline)
    assert await refused(generate(dispatcher, late, 2, waits=True)) == "DEADLINE_EXCEEDED"
    assert (worker.generations[0].deadline, worker.generations[0].priority) == (deadline, BULK)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("queue_full", "OVERLOADED"),
        ("overloaded", "OVERLOADED"),
        ("out_of_memory", "OUT_OF_MEMORY"),
        ("internal", "INTERNAL"),
    ],
)
async def test_failures(dispatch: Dispatch, reason: Any, expected: str) -> None:
    dispatcher, [worker] = await dispatch(1)
    worker.generate = lambda each: [Failure(each.id, reason, "why")]
    assert await refused(generate(dispatcher, work(), 12, waits=False)) == expected
    assert len(worker.generations) == 1


async def test_who_can_wait_waits_while_the_queue_is_full(dispatch: Dispatch) -> None:
    dispatcher, [worker] = await dispatch(1)

    def answer(each: Generate) -> list[ipc.Message]:
        return [Failure(each.id, "queue_full", "no")] if len(worker.generations) < 4 else [completed(each, [[7]])]

    worker.generate = answer
    finished = await asyncio.wait_for(generate(dispatcher, work(), 12, waits=True), 20)
    assert finished.completed is not None
    assert len(worker.generations) == 4


async def test_what_a_worker_generates_for_at_once(dispatch: Dispatch) -> None:
    dispatcher, workers = await dispatch(2)
    assert dispatcher.cache_tokens == 0
    for worker, tokens in zip(workers, (300, 200), strict=True):
        await worker.kill()
        worker.cache_tokens = tokens
    await until(lambda: not dispatcher.live)
    for worker in workers:
        await worker.start()
    await asyncio.wait_for(dispatcher.wait_live(), 20)
    assert dispatcher.cache_tokens == 200
    await workers[1].kill()
    await until(lambda: len(dispatcher.live) == 1)
    assert dispatcher.cache_tokens == 200  # the worker will be back
