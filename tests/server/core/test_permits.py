from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertstream.server.core.callers import Caller
from bertstream.server.core.permits import Permits


async def ticks(count: int = 3) -> None:
    """Let every task run as far as it can."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_fits_is_had_at_once() -> None:
    permits = Permits(10)
    assert await permits.acquire(4) == 4
    assert await permits.acquire(6) == 6
    assert permits.held == 10
    permits.release(10)
    assert permits.held == 0


async def test_turns_are_taken_in_order_and_the_small_do_not_overtake() -> None:
    permits, order = Permits(10), []

    async def take(name: str, count: int) -> None:
        await permits.acquire(count)
        order.append(name)

    await permits.acquire(8)
    tasks = [asyncio.create_task(take(name, count)) for name, count in (("large", 9), ("small", 1), ("other", 2))]
    await ticks()
    assert order == []  # although the small one would fit
    permits.release(8)
    await ticks()
    assert order == ["large", "small"]
    permits.release(9)
    await asyncio.gather(*tasks)
    assert permits.held == 3


async def test_more_than_the_limit_is_had_alone() -> None:
    permits = Permits(10)
    first = await permits.acquire(1)
    waiting = asyncio.create_task(permits.acquire(1000))
    await ticks()
    assert not waiting.done()
    permits.release(first)
    assert await waiting == 10
    assert permits.try_acquire(1) is None
    permits.release(10)
    assert permits.held == 0


async def test_trying_does_not_wait() -> None:
    permits = Permits(10)
    assert permits.try_acquire(7) == 7
    assert permits.try_acquire(4) is None
    assert permits.try_acquire(3) == 3
    permits.release(10)
    assert permits.try_acquire(99) == 10


async def test_holding_gives_back_whatever_happens() -> None:
    permits = Permits(10)
    with pytest.raises(KeyError):  # noqa: PT012
        async with permits.holding(20):
            assert permits.held == 10
            raise KeyError
    assert permits.held == 0


async def test_one_that_gives_up_lets_the_next_go_on() -> None:
    permits = Permits(10)
    await permits.acquire(5)
    large, small = asyncio.create_task(permits.acquire(9)), asyncio.create_task(permits.acquire(5))
    await ticks()
    large.cancel()
    assert await small == 5
    assert permits.held == 10


async def test_giving_up_just_as_the_turn_comes_loses_nothing() -> None:
    permits = Permits(10)
    await permits.acquire(10)
    waiting = asyncio.create_task(permits.acquire(3))
    await ticks()
    permits.release(10)  # its turn has come, but it has not run yet
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert permits.held == 0


async def test_a_release_just_after_giving_up_loses_nothing() -> None:
    permits = Permits(10)
    await permits.acquire(10)
    waiting = asyncio.create_task(permits.acquire(3))
    await ticks()
    waiting.cancel()
    permits.release(10)  # its turn has come, but it was cancelled before it ran
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert permits.held == 0
    assert await permits.acquire(10) == 10


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["acquire", "cancel", "release", "try", "tick"]), st.integers(0, 14)), max_size=60
)


@given(ACTIONS)
@settings(max_examples=200)
def test_no_schedule_leaks_or_exceeds_the_limit(actions: list[tuple[str, int]]) -> None:
    asyncio.run(_schedule(actions))


async def _schedule(actions: list[tuple[str, int]]) -> None:
    permits = Permits(10)
    tasks: list[asyncio.Task[int]] = []
    tried: list[int] = []
    released: set[asyncio.Task[int]] = set()
    for action, number in actions:
        done = [task for task in tasks if task.done() and not task.cancelled() and task not in released]
        if action == "acquire":
            tasks.append(asyncio.create_task(permits.acquire(number)))
        elif action == "cancel" and tasks:
            tasks[number % len(tasks)].cancel()
        elif action == "release" and done:
            task = done[number % len(done)]
            released.add(task)
            permits.release(task.result())
        elif action == "release" and tried:
            permits.release(tried.pop())
        elif action == "try" and (got := permits.try_acquire(number)) is not None:
            tried.append(got)
        elif action == "tick":
            await asyncio.sleep(0)
        assert 0 <= permits.held <= 10
    for got in tried:
        permits.release(got)
    await ticks(10)
    for task in tasks:
        if task.done() and not task.cancelled() and task not in released:
            permits.release(task.result())
            released.add(task)
        await ticks(10)
    for task in tasks:  # the others get in now, one after the other
        if not task.cancelled() and task not in released:
            permits.release(await asyncio.wait_for(task, 5))
    assert permits.held == 0
    assert await asyncio.wait_for(permits.acquire(10), 5) == 10


async def turns_of(permits: Permits, wanted: list[tuple[Caller, int]], steps: int) -> list[str]:
    """Return the callers in the order of their turns, where each turn takes the whole bound and gives it back."""
    order: list[str] = []

    async def take(caller: Caller, count: int) -> None:
        async with permits.holding(count, caller):
            order.append(caller.name)
            await ticks()

    await permits.acquire(permits.limit)
    tasks = [asyncio.create_task(take(caller, count)) for caller, count in wanted]
    await ticks()
    permits.release(permits.limit)
    while len(order) < steps:
        await ticks()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return order[:steps]


async def test_a_caller_with_many_requests_takes_turns_with_one_that_has_few() -> None:
    many, few = Caller("many"), Caller("few")
    order = await turns_of(Permits(10), [*[(many, 10)] * 50, *[(few, 10)] * 2], 6)
    assert order == ["many", "few", "many", "few", "many", "many"]


async def test_turns_follow_weights_and_sizes() -> None:
    heavy, light = Caller("heavy", weight=3.0), Caller("light")
    order = await turns_of(Permits(10), [*[(light, 10)] * 30, *[(heavy, 10)] * 30], 24)
    assert 17 <= order.count("heavy") <= 19
    small, large = Caller("small"), Caller("large")
    order = await turns_of(Permits(10), [*[(large, 10)] * 30, *[(small, 5)] * 30], 24)
    assert 15 <= order.count("small") <= 17


async def test_one_with_nearly_all_leaves_the_last_part_to_others() -> None:
    permits, many, other = Permits(80), Caller("many"), Caller("other")
    assert permits.try_acquire(65, many) == 65
    assert permits.try_acquire(6, many) is None  # although it would fit
    assert permits.is_full(many) is False
    assert permits.try_acquire(5, many) == 5
    assert (permits.is_full(many), permits.is_full(other)) == (True, False)
    assert permits.try_acquire(10, other) == 10
    assert (permits.is_full(other), permits.held) == (True, 80)
    permits.release(70, many)
    permits.release(10, other)
    assert permits.held == 0


async def test_whoever_leaves_the_line_holds_up_nobody() -> None:
    permits, first, second = Permits(10), Caller("first"), Caller("second")
    await permits.acquire(10)
    waiting = [asyncio.create_task(permits.acquire(10, caller)) for caller in (first, first, second)]
    await ticks()
    for task in waiting[:2]:
        task.cancel()
    await ticks()
    permits.release(10)
    assert await waiting[2] == 10
    permits.release(10, second)
    assert permits.held == 0
