from __future__ import annotations

import asyncio

import pytest

from bertstream.server.admin import gathering
from bertstream.server.admin.gathering import Pair
from bertstream.server.core.errors import RequestError
from bertstream.workers.process.control import NoAnswer
from tests.server.admin.support import gathered, gatherings

FIRST, SECOND = gathered(time=1000.0), gathered(time=1001.0)


@pytest.mark.parametrize("error", [NoAnswer("busy"), ConnectionError("gone"), TimeoutError()])
async def test_a_supervisor_that_does_not_answer_is_unavailable(error: Exception) -> None:
    made = gatherings(error)
    with pytest.raises(RequestError, match="NOT_GATHERED: the supervisor does not answer"):
        await made.fresh()


async def test_the_newest_two_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "FOLLOW_SECONDS", 0.01)
    made = gatherings(FIRST, NoAnswer("busy"), SECOND)
    following = asyncio.create_task(made.follow())
    try:
        async with asyncio.timeout(20):
            first = await made.latest()
            second = await made.after(first)
    finally:
        following.cancel()
    assert first == Pair(FIRST, FIRST)
    assert second == Pair(FIRST, SECOND)


async def test_an_answer_ends_the_silence() -> None:
    made = gatherings(NoAnswer("busy"), FIRST)
    await asyncio.sleep(0.05)
    with pytest.raises(RequestError):
        await made.fresh()
    assert made.silent_seconds >= 0.05
    await made.fresh()
    assert made.silent_seconds < 0.05
