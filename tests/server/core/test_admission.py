from __future__ import annotations

import asyncio
import dataclasses
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import pytest

from bertstream.server.core.admission import Admission
from bertstream.server.core.callers import NOBODY, Caller
from bertstream.server.core.errors import Code, RequestError
from bertstream.server.core.quotas import Quota, SharedCounts
from bertstream.server.settings import KeyEntry
from bertstream.workers.contract import BULK, INTERACTIVE


async def ticks() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_unary_calls_are_refused_when_there_is_no_room() -> None:
    admission = Admission(100)
    with admission.unary(80, NOBODY):
        admission.check(NOBODY)
        with pytest.raises(RequestError) as raised, admission.unary(30, NOBODY):
            pytest.fail("it was let in")
        with admission.unary(20, NOBODY), pytest.raises(RequestError):
            admission.check(NOBODY)
    error = raised.value
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert error.retry_seconds is not None
    assert 0.1 <= error.retry_seconds <= 10.0
    assert admission.tokens == 0


async def test_one_larger_than_the_bound_goes_alone() -> None:
    admission = Admission(100)
    with admission.unary(5000, NOBODY), pytest.raises(RequestError), admission.unary(1, NOBODY):
        pass
    assert admission.tokens == 0


async def test_room_comes_back_when_a_call_fails() -> None:
    admission = Admission(100)
    with pytest.raises(KeyError), admission.unary(100, NOBODY):
        raise KeyError
    with pytest.raises(KeyError):
        async with admission.stream(100, NOBODY):
            raise KeyError
    assert admission.tokens == 0


async def test_streams_wait_and_leave_half_for_unary_calls() -> None:
    admission, gate, inside = Admission(100), asyncio.Event(), []

    async def hold(tokens: int) -> None:
        async with admission.stream(tokens, NOBODY):
            inside.append(tokens)
            await gate.wait()

    tasks = [asyncio.create_task(hold(tokens)) for tokens in (30, 20, 10)]
    await ticks()
    assert (inside, admission.tokens) == ([30, 20], 50)
    with admission.unary(50, NOBODY):
        pass
    gate.set()
    await asyncio.gather(*tasks)
    assert inside == [30, 20, 10]
    assert admission.tokens == 0


async def test_even_a_stream_of_large_messages_leaves_half() -> None:
    admission = Admission(100)
    async with admission.stream(5000, NOBODY):
        assert admission.tokens == 50
        with admission.unary(50, NOBODY):
            pass


async def test_an_interactive_stream_does_not_wait_behind_bulk_streams() -> None:
    admission, gate, inside = Admission(100), asyncio.Event(), []

    async def hold(holding: AbstractAsyncContextManager[None], name: str) -> None:
        async with holding:
            inside.append(name)
            await gate.wait()

    tasks = [asyncio.create_task(hold(admission.stream(50, NOBODY), f"bulk {number}")) for number in range(3)]
    await ticks()
    tasks += [
        asyncio.create_task(hold(admission.interactive_stream(40, NOBODY), f"pieces {number}")) for number in range(2)
    ]
    await ticks()
    assert inside == ["bulk 0", "pieces 0"]
    gate.set()
    await asyncio.gather(*tasks)
    assert admission.tokens == 0
    async with admission.interactive_stream(5000, NOBODY):
        assert admission.tokens == 100


async def test_streams_wait_for_unary_calls_too() -> None:
    admission = Admission(100)

    async def pass_through() -> None:
        async with admission.stream(40, NOBODY):
            pass

    with admission.unary(90, NOBODY):
        task = asyncio.create_task(pass_through())
        await ticks()
        assert not task.done()
    await asyncio.wait_for(task, 5)


async def test_a_stream_that_gives_up_leaves_nothing_behind() -> None:
    admission = Admission(100)

    async def hold() -> None:
        async with admission.stream(40, NOBODY):
            pass

    with admission.unary(90, NOBODY):
        tasks = [asyncio.create_task(hold()) for _ in range(3)]
        await ticks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert admission.tokens == 0
    await asyncio.wait_for(hold(), 5)


async def test_a_faster_model_is_waited_for_less_long() -> None:
    slow, fast = Admission(100_000), Admission(100_000)
    with fast.unary(90_000, NOBODY):
        pass
    seconds = []
    for admission in (slow, fast):
        with (
            admission.unary(90_000, NOBODY),
            pytest.raises(RequestError) as raised,
            admission.unary(90_000, NOBODY),
        ):
            pass
        assert raised.value.retry_seconds is not None
        seconds.append(raised.value.retry_seconds)
    assert seconds[1] < seconds[0] == 10.0


async def test_a_quota_is_charged_for_what_is_admitted_alone(tmp_path: Path) -> None:
    key = KeyEntry("a", "0" * 64, tokens_per_second=0.01)
    counts = SharedCounts(tmp_path / "counts")
    one, other = (Caller(f"key-{slot}", quota=Quota(dataclasses.replace(key, slot=slot), counts)) for slot in (1, 2))
    admission = Admission(100)
    with admission.unary(80, NOBODY), pytest.raises(RequestError, match="OVERLOADED"), admission.unary(30, one):
        pass
    with admission.unary(30, one):  # its bucket is still full, so it lets in more than a burst
        pass
    with pytest.raises(RequestError, match="QUOTA_EXCEEDED"):
        admission.check(one)
    with pytest.raises(RequestError, match="QUOTA_EXCEEDED"), admission.unary(1, one):
        pytest.fail("it was let in")
    assert admission.tokens == 0
    admission.check(other)
    for stream in (admission.stream, admission.interactive_stream):
        waiting = asyncio.create_task(stream(1, one).__aenter__())
        await ticks()
        assert (waiting.done(), admission.tokens) == (False, 0)  # it holds no room while it waits for its quota
        waiting.cancel()


@pytest.mark.parametrize(
    ("waits", "priority", "room"),
    [(False, INTERACTIVE, 40), (False, BULK, 40), (True, INTERACTIVE, 40), (True, BULK, 0)],
)
async def test_room_for_calls_and_for_streams_of_either_priority(waits: bool, priority: int, room: int) -> None:
    """Of a bound of 100, half of it held by a stream: who waits with bulk work gets no more, all others do."""
    admission = Admission(100)
    async with admission.stream(50, NOBODY):
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05), admission.room(40, NOBODY, priority, waits=waits):
                assert admission.tokens == 50 + room
                assert room
        if not waits:
            with pytest.raises(RequestError, match="OVERLOADED"):
                async with admission.room(60, NOBODY, priority, waits=waits):
                    pytest.fail("it was let in")
    assert admission.tokens == 0
