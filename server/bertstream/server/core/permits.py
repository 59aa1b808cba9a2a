"""A fair, counted bound: what asks first gets first, and large requests are not overtaken for ever by small ones."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Permits:
    """At most `limit` units are held at once, except that a single holder may have more than that alone."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, count: int) -> int:
        """Waits for its turn and for room. Returns what to release: `count`, or the limit if that is less."""
        count = min(count, self.limit)
        if not self._waiting and self.held + count <= self.limit:
            self.held += count
            return count
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it came at the same time
                self.release(count)
            else:
                with suppress(ValueError):  # where a release has skipped it already
                    self._waiting.remove((count, turn))
                self._wake()
            raise
        return count

    def try_acquire(self, count: int) -> int | None:
        """Like acquire, but None at once where it would wait. Does not queue, so it ignores those that do."""
        count = min(count, self.limit)
        if self.held and self.held + count > self.limit:
            return None
        self.held += count
        return count

    def release(self, count: int) -> None:
        """Gives back what acquire returned."""
        self.held -= count
        self._wake()

    @asynccontextmanager
    async def holding(self, count: int) -> AsyncIterator[None]:
        """Holds so many while the body runs."""
        held = await self.acquire(count)
        try:
            yield
        finally:
            self.release(held)

    def _wake(self) -> None:
        while self._waiting and self.held + self._waiting[0][0] <= self.limit:
            count, turn = self._waiting.popleft()
            if not turn.cancelled():
                self.held += count
                turn.set_result(None)
