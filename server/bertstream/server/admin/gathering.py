"""What the supervisor has gathered: the newest of it, and that of a second before, for rates."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bertstream.server.core.errors import RequestError, not_gathered
from bertstream.server.messages import Gathered
from bertstream.workers.process.control import NoAnswer

log = logging.getLogger(__name__)

ASK_SECONDS = 5.0  # the time that the supervisor has to answer
FOLLOW_SECONDS = 0.95  # between questions that nobody waits for: before the supervisor gathers by itself
Ask = Callable[[], Awaitable[Gathered]]


@dataclass(frozen=True, slots=True)
class Pair:
    """What was gathered at two moments, the same one where there was only one yet."""

    before: Gathered
    now: Gathered


class Gatherings:
    """Asks the supervisor, once a second and whenever somebody wants it fresh."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._pair: Pair | None = None
        self._answered = time.monotonic()
        self._changed = asyncio.Condition()

    @property
    def silent_seconds(self) -> float:
        """Return for how long the supervisor has not answered."""
        return time.monotonic() - self._answered

    async def fresh(self) -> Gathered:
        """Return what all processes have counted until now. Raises UNAVAILABLE where the supervisor does not answer."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                gathered = await self._ask()
        except (TimeoutError, ConnectionError, NoAnswer) as error:
            raise not_gathered() from error
        self._answered = time.monotonic()
        return gathered

    async def follow(self) -> None:
        """Ask once a second, until cancelled."""
        while True:
            try:
                await self._take(await self.fresh())
            except RequestError as error:
                log.warning("%s", error.message)
            await asyncio.sleep(FOLLOW_SECONDS)

    async def latest(self) -> Pair:
        """Return the two newest, and wait for the first."""
        return self._pair or await self.after(None)

    async def after(self, known: Pair | None) -> Pair:
        """Return the two newest, once they are others than those that are known."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._pair is not known)
            assert self._pair is not None  # it never becomes None again
            return self._pair

    async def _take(self, newest: Gathered) -> None:
        async with self._changed:
            self._pair = Pair(self._pair.now if self._pair else newest, newest)
            self._changed.notify_all()
