"""A bound on counted units that is fair between callers, and to large requests beside small ones."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from bertstream.server.core.callers import NOBODY, Caller

_RESERVED_PART = 8  # 1 in 8 units of the bound is reserved for callers who hold less than that part


@dataclass(slots=True)
class _Line:
    """The requests of one caller that wait, in the order in which they were made."""

    weight: float
    waiting: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)


class Permits:
    """Lets at most `limit` units be held at once, except that a single holder may have more while it is alone.

    Callers who wait take turns: the next is whoever has been given least beside its weight since all of them began to
    wait (start-time fair queuing). What one caller asks first it gets first, and nobody overtakes the one whose turn
    it is, so that small requests cannot starve a large one.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._held_by: Counter[str] = Counter()
        self._lines: dict[str, _Line] = {}
        self._turns: list[tuple[float, int, str]] = []  # a heap with the time of the turn of each caller who waits
        self._numbers = itertools.count()  # of turns at the same time, the older one comes first
        self._now = 0.0  # the virtual time: units given, each divided by its caller's weight
        self._next: dict[str, float] = {}  # when the next turn is of each caller who was given units

    async def acquire(self, count: int, caller: Caller = NOBODY) -> int:
        """Wait for the caller's turn and for room; return what to release: `count`, or the limit if that is less."""
        count = min(count, self.limit)
        if not self._turns and self.held + count <= self.limit:
            self._hold(count, caller.name)
            return count
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wait(count, turn, caller)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the units were granted at the same time
                self.release(count, caller)
            else:
                self._leave(count, turn, caller.name)
            raise
        return count

    def try_acquire(self, count: int, caller: Caller = NOBODY) -> int | None:
        """Do as acquire, but return None where there is no room; callers who wait are ignored."""
        count = min(count, self.limit)
        if self.held and self.held + count > self._most(caller):
            return None
        self._hold(count, caller.name)
        return count

    def is_full(self, caller: Caller = NOBODY) -> bool:
        """Return whether try_acquire would give this caller nothing at all."""
        return self.held >= self._most(caller)

    def release(self, count: int, caller: Caller = NOBODY) -> None:
        """Give back what acquire returned."""
        self.held -= count
        self._held_by[caller.name] -= count
        if self._held_by[caller.name] <= 0:
            del self._held_by[caller.name]
        self._wake()

    @asynccontextmanager
    async def holding(self, count: int, caller: Caller = NOBODY) -> AsyncIterator[None]:
        """Hold `count` units while the body runs."""
        held = await self.acquire(count, caller)
        try:
            yield
        finally:
            self.release(held, caller)

    def _most(self, caller: Caller) -> int:
        """Return how many units may be held in all for this caller to get more; NOBODY has no share of its own."""
        kept = self.limit // _RESERVED_PART if caller.name else 0
        return self.limit - kept if kept and self._held_by[caller.name] >= kept else self.limit

    def _hold(self, count: int, name: str) -> None:
        self.held += count
        self._held_by[name] += count

    def _wait(self, count: int, turn: asyncio.Future[None], caller: Caller) -> None:
        line = self._lines.get(caller.name)
        if line is None:
            line = self._lines[caller.name] = _Line(caller.weight)
            self._take_turn(caller.name)
        line.waiting.append((count, turn))

    def _leave(self, count: int, turn: asyncio.Future[None], name: str) -> None:
        with suppress(KeyError, ValueError):  # its turn has come and was skipped already
            self._lines[name].waiting.remove((count, turn))
        self._wake()

    def _take_turn(self, name: str) -> None:
        at = max(self._now, self._next.get(name, 0.0))
        heapq.heappush(self._turns, (at, next(self._numbers), name))

    def _wake(self) -> None:
        while self._turns:
            at, _, name = self._turns[0]
            line = self._lines[name]
            while line.waiting and line.waiting[0][1].cancelled():
                line.waiting.popleft()
            if line.waiting and self.held + line.waiting[0][0] > self.limit:
                return
            heapq.heappop(self._turns)
            self._now = at
            if line.waiting:
                self._give(name, line)
            if line.waiting:
                self._take_turn(name)
            else:
                del self._lines[name]
        self._next.clear()  # without anyone waiting, no caller is ahead of another

    def _give(self, name: str, line: _Line) -> None:
        count, turn = line.waiting.popleft()
        self._hold(count, name)
        self._next[name] = self._now + count / line.weight
        turn.set_result(None)
