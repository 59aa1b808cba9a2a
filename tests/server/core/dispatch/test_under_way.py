"""What workers have of each caller, and when it would be done."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import numpy as np
import pytest

from bertstream.server.core.callers import Caller
from bertstream.server.core.dispatch.dispatcher import Dispatcher, Job
from bertstream.server.core.dispatch.under_way import UnderWay
from bertstream.server.core.errors import RequestError
from bertstream.workers.contract import BULK, INTERACTIVE, Failure, OutputOptions, Result, Work
from tests.server.core.dispatch.conftest import MakeWorkers
from tests.support.works import make_batch


def work(caller: str, tokens: int, weight: float = 1.0, priority: int = INTERACTIVE) -> Work:
    return Work(1, make_batch([tokens]), OutputOptions(()), priority, caller=caller, weight=weight)


def test_others_count_as_far_as_they_are_served_meanwhile() -> None:
    under_way = UnderWay()
    with ExitStack() as stack:
        for each in (work("a", 30), work("a", 30), work("b", 100), work("c", 10), work("d", 500, weight=2.0)):
            stack.enter_context(under_way.counting(each))
        assert under_way.tokens_until_done("a") == 60 + 60 + 10 + 120
        assert under_way.tokens_until_done("c") == 10 + 10 + 10 + 20
        assert under_way.tokens_until_done("nobody") == 0
        assert under_way.tokens == 670
    assert under_way.tokens_until_done("a") == 0
    assert under_way.tokens == 0


def test_bulk_work_does_not_count_and_what_failed_counts_no_more() -> None:
    under_way = UnderWay()
    with under_way.counting(work("a", 30, priority=BULK)):
        assert under_way.tokens_until_done("a") == 0
    with pytest.raises(KeyError), under_way.counting(work("a", 30)):
        raise KeyError
    assert under_way.tokens_until_done("a") == 0


async def test_a_flood_is_refused_for_its_own_work_and_others_are_not(make_workers: MakeWorkers) -> None:
    first, second = await make_workers(2)
    dispatcher = Dispatcher([str(first.path), str(second.path)], 1.0, lambda: None)
    await dispatcher.wait_live()
    heavy, light = Caller("heavy"), Caller("light")

    def answer(each: Work) -> Result | Failure | None:
        """Answer the first, and none of the others."""
        return Result(each.id, {"pooled": np.zeros((1, 1), np.float32)}, 0, 0, 0.0, 1.0) if each.id == 1 else None

    first.answer = second.answer = answer

    def within(seconds: float) -> float:
        return time.monotonic() + seconds

    def ask() -> asyncio.Task[object]:
        job = Job(make_batch([4096]), OutputOptions(()), deadline=within(60), caller=heavy)
        return asyncio.create_task(dispatcher.run(job))

    await asyncio.gather(ask(), ask())  # a full batch takes a second at both
    tasks = [ask() for _ in range(8)]  # four seconds' work at each
    await asyncio.sleep(0.1)
    dispatcher.check_time(heavy, within(60))
    dispatcher.check_time(light, within(2))
    with pytest.raises(RequestError, match="OVERLOADED"):
        dispatcher.check_time(heavy, within(3))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    dispatcher.check_time(heavy, within(3))
    await dispatcher.close()
