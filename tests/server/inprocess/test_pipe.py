from __future__ import annotations

import asyncio

import pytest

from bertstream.server.inprocess.pipe import Pipe, PipeClosed


async def test_a_full_pipe_waits_for_room() -> None:
    pipe: Pipe[int] = Pipe(room=2)
    await pipe.put(1)
    await pipe.put(2)
    third = asyncio.create_task(pipe.put(3))
    await asyncio.sleep(0)
    assert not third.done()
    assert await pipe.get() == 1
    await third
    assert [await pipe.get(), await pipe.get()] == [2, 3]


async def test_many_messages_come_in_order() -> None:
    pipe: Pipe[int] = Pipe()

    async def put_all() -> None:
        for number in range(100):
            await pipe.put(number)
        pipe.close()

    putting, taken = asyncio.create_task(put_all()), []
    while (number := await pipe.get()) is not None:
        taken.append(number)
    await putting
    assert taken == list(range(100))


async def test_what_a_closed_pipe_holds_can_be_taken_and_no_more_is_let_in() -> None:
    pipe: Pipe[int] = Pipe()
    await pipe.put(1)
    waiting = asyncio.create_task(pipe.put(2))
    await asyncio.sleep(0)
    pipe.close()
    with pytest.raises(PipeClosed):
        await waiting
    assert [await pipe.get(), await pipe.get()] == [1, None]


async def test_whoever_waits_for_a_message_learns_that_none_comes() -> None:
    pipe: Pipe[int] = Pipe()
    waiting = asyncio.create_task(pipe.get())
    await asyncio.sleep(0)
    pipe.close()
    assert await waiting is None
