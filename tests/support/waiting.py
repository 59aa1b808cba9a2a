"""Wait in tests for what another task, thread or process does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest


async def until(true: Callable[[], Any], seconds: float = 60.0) -> None:
    """Check again and again until it is true. Raises TimeoutError in the end."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - there is no event for what tests look at
            await asyncio.sleep(0.001)


async def with_more_time(attempt: Callable[[float], Awaitable[Any]], came: Callable[[], Any], seconds: float) -> None:
    """Make an attempt that ends by its own deadline, again with twice the time where it has not come so far by then.

    On a busy machine any time may be over before what it is given for has begun. Fails where a minute is too little.
    """
    while True:
        await attempt(seconds)
        if came():
            return
        seconds *= 2
        assert seconds < 60, "it never came so far"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def stopped_clock(monkeypatch: pytest.MonkeyPatch, *modules: Any) -> Clock:
    """Return the clock that these modules have from now on; event loops keep theirs."""
    clock = Clock()
    for module in modules:
        monkeypatch.setattr(module, "time", clock)
    return clock
