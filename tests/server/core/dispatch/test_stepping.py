"""A computation in steps, and the worker that has its states."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from bertstream.server.core.dispatch.dispatcher import Dispatcher
from bertstream.server.core.dispatch.stepping import Stepping
from bertstream.workers.contract import INTERACTIVE, Failure, OutputOptions, Result, Work
from tests.server.core.dispatch.conftest import MakeWorkers
from tests.support.fake_worker import echo
from tests.support.works import make_batch


async def test_a_worker_that_had_no_time_forgets_the_session(make_workers: MakeWorkers) -> None:
    workers = await make_workers(2)
    refused: list[int] = []

    def answer(index: int, work: Work) -> Result | Failure:
        if refused:
            return echo(work)
        refused.append(index)
        return Failure(work.id, "overloaded", "no time", 1.0)

    for index, worker in enumerate(workers):
        worker.answer = partial(answer, index)
    dispatcher = Dispatcher([str(each.path) for each in workers], 1.0, lambda: None)
    await dispatcher.wait_live()
    stepping = Stepping(dispatcher, make_batch([3]), INTERACTIVE, time.monotonic() + 60)
    await stepping.step(OutputOptions(("pooled",)), final=False)
    first, second = workers[refused[0]], workers[1 - refused[0]]
    async with asyncio.timeout(20), first.came:
        await first.came.wait_for(lambda: first.ended_sessions)
    number = second.works[0].session
    assert (first.ended_sessions, second.ended_sessions) == ([number], [])
    stepping.close()
    async with asyncio.timeout(20), second.came:
        await second.came.wait_for(lambda: second.ended_sessions)
    assert (first.ended_sessions, second.ended_sessions) == ([number], [number])
    await dispatcher.close()
