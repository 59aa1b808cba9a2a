"""What the supervisor has gathered: the newest of it, and that of a second before, for rates."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from bertstream.server.core.errors import RequestError, not_gathered
from bertstream.server.messages import Gathered
from bertstream.workers.process.control import NoAnswer

log = logging.getLogger(__name__)

ASK_SECONDS = 5.0  # the time that the supervisor has to answer
FOLLOW_SECONDS = 0.95  # between questions while somebody follows: before the supervisor gathers by itself
REST_SECONDS = 10.0  # between questions while nobody does, so that whoever comes gets rates at once
_LEAST_SECONDS = 0.5  # that rates are over
Ask = Callable[[], Awaitable[Gathered]]


@dataclass(frozen=True, slots=True)
class Pair:
    """What was gathered at two moments, the same one where there was only one yet."""

    before: Gathered
    now: Gathered


class Gatherings:
    """Asks the supervisor whenever somebody wants it fresh, once a second while somebody follows, and else rarely."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._pair: Pair | None = None
        self._answered = time.monotonic()
        self._changed = asyncio.Condition()
        self._followers = 0
        self._followed = asyncio.Event()

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
        """Ask again and again, until cancelled."""
        while True:
            try:
                await self._take(await self.fresh())
            except RequestError as error:
                log.warning("%s", error.message)
            except Exception:  # a bug of ours, which must not end this for good
                log.exception("what was gathered makes no sense")
            await self._pause()

    async def latest(self) -> Pair:
        """Return what is gathered now, and what was a while before. Raises UNAVAILABLE as `fresh` does."""
        now, pair = await self.fresh(), self._pair
        if pair is None:
            return Pair(now, now)
        recent = now.time - pair.now.time < _LEAST_SECONDS
        return Pair(pair.before if recent else pair.now, now)

    async def pairs(self) -> AsyncGenerator[Pair, None]:
        """Yield what is gathered, at once and then every second; what fails is left out."""
        self._followers += 1
        self._followed.set()
        try:
            known = self._pair
            with contextlib.suppress(RequestError):
                yield await self.latest()
            while True:
                known = await self._after(known)
                yield known
        finally:
            self._followers -= 1

    async def _after(self, known: Pair | None) -> Pair:
        async with self._changed:
            await self._changed.wait_for(lambda: self._pair is not known)
            assert self._pair is not None  # it never becomes None again
            return self._pair

    async def _pause(self) -> None:
        """Wait until it is time for the next question; whoever comes to follow ends a rest."""
        await asyncio.sleep(FOLLOW_SECONDS)
        if not self._followers:
            self._followed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._followed.wait(), REST_SECONDS - FOLLOW_SECONDS)

    async def _take(self, newest: Gathered) -> None:
        async with self._changed:
            self._pair = Pair(self._pair.now if self._pair else newest, newest)
            self._changed.notify_all()
