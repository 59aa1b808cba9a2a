"""One piece of work, sent to one worker after another until one has answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bertstream.server.core import errors
from bertstream.server.core.callers import NOBODY, Caller
from bertstream.server.core.dispatch.fleet import Fleet
from bertstream.server.core.dispatch.link import WorkerLink, WorkerLost
from bertstream.server.core.dispatch.traced import traced
from bertstream.server.core.errors import RequestError
from bertstream.workers.contract import Failure

MAX_DEATHS = 3  # workers that may die computing one input before it is refused
QUEUE_FULL_SECONDS = 0.1  # between attempts
Answer = TypeVar("Answer")


class Attempts:
    """The attempts at one piece of work, or at several that follow one another for the same input.

    Counts the workers that died computing it; those that were lost while it only waited in their queue do not count.
    """

    def __init__(
        self,
        fleet: Fleet,
        deadline: float,
        *,
        waits: bool,
        deaths: int = 0,
        most: int = MAX_DEATHS,
        caller: Caller = NOBODY,
        generates: bool = False,
    ) -> None:
        """Take the deadline (`time.monotonic()`), and whether to wait rather than fail while a worker's queue is full.

        deaths: of workers over this input before. most: the deaths at which it is refused. caller: whose work it is.
        generates: whether text is generated, for which there is another queue.
        """
        self.deaths = deaths
        self.admitted = False  # by a worker that was lost since, so that no other refuses it for time
        self._fleet = fleet
        self._deadline = deadline
        self._waits = waits
        self._most = most
        self._caller = caller
        self._generates = generates

    async def run(
        self, attempt: Callable[[WorkerLink], Awaitable[Answer | Failure]], first: WorkerLink | None = None
    ) -> Answer:
        """Return the answer of the `first` worker, if given and alive, or else of the least loaded one.

        Where that has no time for the work, one other is asked: a worker that refuses has the least work under way,
        and would be asked for everything while others run idle. Raises what the answer's failure means,
        POISONOUS_INPUT, and WORKER_LOST where none is alive for as long as a call waits. Cancelling this cancels the
        attempt.
        """
        instead: WorkerLink | None = None  # of one that had no time
        while True:
            link = instead or (first if first is not None and first.alive else await self._next())
            try:
                answer = await traced(attempt, link)
            except WorkerLost as lost:
                self._count(lost)
                instead = None
                continue
            if not isinstance(answer, Failure):
                return answer
            if answer.reason == "overloaded" and instead is None and (instead := self._fleet.another(link)):
                continue
            if answer.reason != "queue_full" or not self._waits:
                raise self._late(answer) if answer.reason == "overloaded" else _meaning(answer)
            instead = None
            await asyncio.sleep(QUEUE_FULL_SECONDS)

    async def _next(self) -> WorkerLink:
        return await self._fleet.least_loaded(time.monotonic() + self._fleet.worker_wait_seconds, self._deadline)

    def _late(self, failure: Failure) -> RequestError:
        """Return the error for work for which workers have no time, and remember for a moment that there was none."""
        outlook = self._fleet.generation_outlook if self._generates else self._fleet.outlook
        outlook.refused(self._caller.name, self._deadline, failure.retry_seconds)
        seconds = outlook.retry_seconds(self._caller.name, failure.retry_seconds)
        return errors.overloaded(f"{failure.message}: try again in {seconds:.2f} s", seconds)

    def _count(self, lost: WorkerLost) -> None:
        self._fleet.measures.lost(computing=lost.running)
        self.admitted = True
        self.deaths += lost.running
        if self.deaths >= self._most:
            raise errors.poisonous(self.deaths) from None


def _meaning(failure: Failure) -> RequestError:
    """Return the error that tells a caller of a worker's failure."""
    if failure.reason == "expired":
        return errors.deadline_exceeded()
    if failure.reason == "queue_full":
        return errors.overloaded(failure.message, 1.0)
    return errors.out_of_memory() if failure.reason == "out_of_memory" else errors.internal()
