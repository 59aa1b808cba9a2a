from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from bertstream.server.admin import gathering
from bertstream.server.admin.gathering import Gatherings, Pair
from bertstream.server.core.errors import RequestError
from bertstream.server.messages import Gathered
from bertstream.workers.process.control import NoAnswer
from tests.server.admin.support import gathered, gatherings
from tests.support.waiting import stopped_clock

FIRST, SECOND, THIRD = (gathered(time=time) for time in (1000.0, 1001.0, 1002.0))


@pytest.mark.parametrize("error", [NoAnswer("busy"), ConnectionError("gone"), TimeoutError()])
async def test_a_supervisor_that_does_not_answer_is_unavailable(error: Exception) -> None:
    made = gatherings(error)
    with pytest.raises(RequestError, match="NOT_GATHERED: the supervisor does not answer"):
        await made.fresh()


async def test_whoever_follows_gets_what_is_gathered_at_once_and_then_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "FOLLOW_SECONDS", 0.01)
    made = gatherings(FIRST, NoAnswer("busy"), SECOND, THIRD)
    following = asyncio.create_task(made.follow())
    try:
        async with asyncio.timeout(20), aclosing(made.pairs()) as pairs:
            found = [await anext(pairs) for _ in range(3)]
    finally:
        following.cancel()
    assert found[0] == Pair(FIRST, FIRST)
    assert found[1].before.time <= found[1].now.time
    assert found[-1].now in (SECOND, THIRD)


async def test_rates_are_over_half_a_second_at_least() -> None:
    times = iter((1000.0, 1000.2, 1001.0))
    asked = asyncio.Event()

    async def ask() -> Gathered:
        asked.set()
        return gathered(time=next(times))

    made = Gatherings(ask)
    following = asyncio.create_task(made.follow())
    await asked.wait()
    await asyncio.sleep(0)
    pairs = [await made.latest() for _ in range(2)]
    following.cancel()
    assert [(each.before.time, each.now.time) for each in pairs] == [(1000.0, 1000.2), (1000.0, 1001.0)]


async def test_while_nobody_follows_the_supervisor_is_asked_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "FOLLOW_SECONDS", 0.01)
    monkeypatch.setattr(gathering, "REST_SECONDS", 60.0)
    asked = 0

    async def ask() -> Gathered:
        nonlocal asked
        asked += 1
        return gathered(time=1000.0 + asked)

    made = Gatherings(ask)
    following = asyncio.create_task(made.follow())
    await asyncio.sleep(0.2)
    assert asked == 1
    async with aclosing(made.pairs()) as pairs:
        for _ in range(4):
            await anext(pairs)
    assert asked >= 4
    await asyncio.sleep(0.1)
    rested = asked
    await asyncio.sleep(0.2)
    assert asked == rested
    following.cancel()


async def test_an_answer_ends_the_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = stopped_clock(monkeypatch, gathering)
    made = gatherings(NoAnswer("busy"), FIRST)
    clock.now += 0.5
    with pytest.raises(RequestError):
        await made.fresh()
    assert made.silent_seconds == 0.5
    await made.fresh()
    assert made.silent_seconds == 0.0
