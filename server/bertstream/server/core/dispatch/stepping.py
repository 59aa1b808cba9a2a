"""A computation in steps, each for higher layers than the one before, on one worker as long as that lives."""

from __future__ import annotations

import itertools
import time

from bertstream.server.core import errors
from bertstream.server.core.dispatch.dispatcher import MAX_DEATHS, Dispatcher, failure
from bertstream.server.core.dispatch.link import WorkerLink, WorkerLost
from bertstream.workers.contract import Batch, Failure, Result, Wishes, Work

_numbers = itertools.count(1)


class Stepping:
    """Some texts on their way through the layers. A worker that is lost is replaced by one that starts anew."""

    def __init__(self, dispatcher: Dispatcher, batch: Batch, priority: int, deadline: float) -> None:
        self._dispatcher = dispatcher
        self._batch = batch
        self._priority = priority
        self._deadline = deadline
        self._number = next(_numbers)
        self._link: WorkerLink | None = None
        self._deaths = 0

    async def step(self, wishes: Wishes, *, final: bool) -> Result:
        """The outputs wished for. Cancelling it cancels the step. Raises RequestError."""
        give_up = time.monotonic() + self._dispatcher.worker_wait_seconds
        while True:
            if self._link is None or not self._link.alive:
                self._link = await self._dispatcher.least_loaded(give_up, self._deadline)
            work = Work(0, self._batch, wishes, self._priority, self._deadline, session=self._number, final=final)
            try:
                answer = await self._link.call(work)
            except WorkerLost as lost:
                self._deaths += lost.running
                if self._deaths >= MAX_DEATHS:
                    raise errors.poisonous(MAX_DEATHS) from None
                continue
            if isinstance(answer, Failure):
                raise failure(answer)
            return answer

    def close(self) -> None:
        """Lets the worker forget the states."""
        if self._link is not None:
            self._link.forget_session(self._number)
