"""Which calls may begin: none while the server drains, and so many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from bertstream.server.core import errors


def _tell_nobody(under_way: int) -> None:
    return


class Gate:
    """Counts the calls under way in one frontend."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._under_way = 0
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._tell: Callable[[int], None] = _tell_nobody

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Counts a call while the body runs. Raises DRAINING, or OVERLOADED where too many are under way."""
        if self._closed:
            raise errors.draining()
        if self._under_way >= self._limit:
            raise errors.overloaded(f"{self._under_way} calls are under way, which is the bound", 1.0)
        self._under_way += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            self._tell(self._under_way)
            if not self._under_way:
                self._empty.set()

    def close(self, tell: Callable[[int], None] = _tell_nobody) -> None:
        """From now on no call begins. Tells how many are under way, now and whenever one ends."""
        self._closed, self._tell = True, tell
        tell(self._under_way)

    async def wait_empty(self, seconds: float) -> None:
        """Returns once no call is under way, or after so many seconds; what happens to calls then is not told."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), seconds)
        self._tell = _tell_nobody
