from __future__ import annotations

import asyncio

import pytest

from bertstream.server.core.errors import RequestError
from bertstream.server.core.gate import Gate


async def test_so_many_calls_pass_at_once() -> None:
    gate = Gate(2)
    with gate.passing(), gate.passing(), pytest.raises(RequestError) as caught, gate.passing():
        pass
    assert caught.value.reason == "OVERLOADED"
    assert caught.value.retry_seconds
    with gate.passing():
        pass


async def test_none_passes_once_it_is_closed_and_those_within_finish() -> None:
    gate = Gate(10)
    with gate.passing():
        gate.close()
        with pytest.raises(RequestError) as caught, gate.passing():
            pass
        assert caught.value.reason == "DRAINING"
        emptied = asyncio.create_task(gate.wait_empty(60))
        await asyncio.sleep(0)
        assert not emptied.done()
    await emptied


async def test_waiting_has_an_end() -> None:
    gate = Gate(10)
    with gate.passing():
        await gate.wait_empty(0.01)


async def test_what_is_left_is_told_at_once_and_at_each_change_until_the_time_is_over() -> None:
    gate, told = Gate(10), list[int]()
    with gate.passing():
        with gate.passing():
            with gate.passing():
                gate.close(told.append)
                assert told == [3]
            await gate.wait_empty(0.01)
            assert told == [3, 2]
        assert told == [3, 2]  # the last call was cut off
