"""Which calls may begin: a bounded number at once, and none while the server drains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from bertstream.server.core import errors
from bertstream.server.core.callers import NOBODY, Caller
from bertstream.server.core.permits import Permits


def _tell_nobody(under_way: int) -> None:
    return


class Gate:
    """Counts the calls under way in one frontend."""

    def __init__(self, limit: int) -> None:
        self._places = Permits(limit)
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._tell: Callable[[int], None] = _tell_nobody

    @contextmanager
    def passing(self, caller: Caller = NOBODY) -> Iterator[None]:
        """Count a call while the body runs; raise DRAINING, or OVERLOADED where too many are under way.

        The last places are kept for callers with few calls, so that one with very many does not shut out the others.
        """
        if self._closed:
            raise errors.draining()
        if self._places.try_acquire(1, caller) is None:
            raise errors.overloaded(f"{self._places.held} calls are under way, of {self._places.limit} at most", 1.0)
        self._empty.clear()
        try:
            yield
        finally:
            self._places.release(1, caller)
            self._tell(self._places.held)
            if not self._places.held:
                self._empty.set()

    @property
    def fullness(self) -> float:
        """The part of the places that are taken; 1 where no call may begin."""
        return 1.0 if self._closed else self._places.held / self._places.limit

    @property
    def closed(self) -> bool:
        """Whether no more calls may begin."""
        return self._closed

    def close(self, tell: Callable[[int], None] = _tell_nobody) -> None:
        """Let no more calls begin, and `tell` how many are under way, now and whenever one ends."""
        self._closed, self._tell = True, tell
        tell(self._places.held)

    async def wait_empty(self, seconds: float) -> None:
        """Return once no call is under way, or after `seconds`; then the number of calls is no longer told."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), seconds)
        self._tell = _tell_nobody
