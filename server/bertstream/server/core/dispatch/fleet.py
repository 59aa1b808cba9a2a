"""The workers of one model, as one frontend sees them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from bertstream.server.core import errors, tracing
from bertstream.server.core.callers import Caller
from bertstream.server.core.dispatch.link import WorkerLink
from bertstream.server.core.dispatch.outlook import LEAST_SLACK_SECONDS, Outlook
from bertstream.server.core.dispatch.under_way import UnderWay
from bertstream.server.core.measures import ModelMeasures

MIN_PIECE_TOKENS = 512  # smaller pieces gain nothing from another worker


class Fleet:
    """Links to all workers of a model, which know the live ones and the least loaded one."""

    def __init__(
        self,
        sockets: Sequence[str],
        worker_wait_seconds: float,
        on_change: Callable[[], None],
        measures: ModelMeasures | None = None,
    ) -> None:
        self.measures = measures or ModelMeasures()
        self._changed = asyncio.Event()
        self._on_change = on_change
        self.worker_wait_seconds = worker_wait_seconds
        self._under_way = UnderWay()
        self._links = [WorkerLink(path, self._link_changed, self._under_way) for path in sockets]
        self._closed = False
        self.outlook = Outlook(lambda: [link.wait for link in self.live], self._seconds_behind_own)
        self.generation_outlook = Outlook(lambda: [link.generation_wait for link in self.live])

    @property
    def workers(self) -> int:
        """The number of workers that the model is configured to have."""
        return len(self._links)

    @property
    def live(self) -> list[WorkerLink]:
        """The workers that can take work now."""
        return [link for link in self._links if link.alive]

    @property
    def batch_tokens(self) -> int:
        """The tokens that every live worker takes in one batch."""
        return min((link.hello.batch_tokens for link in self.live if link.hello), default=MIN_PIECE_TOKENS)

    @property
    def interactive_tokens(self) -> int:
        """The tokens up to which work of every live worker is short for others who wait."""
        return min((link.hello.interactive_tokens for link in self.live if link.hello), default=MIN_PIECE_TOKENS)

    @property
    def cache_tokens(self) -> int:
        """The tokens of one generation that every worker takes; 0 where the model does not generate."""
        return min((link.cache_tokens for link in self._links if link.cache_tokens), default=0)

    def check_time(self, caller: Caller, deadline: float) -> None:
        """Raise OVERLOADED where work of this caller could not be answered by its deadline, before any work is done."""
        self.outlook.check(caller.name, deadline)

    def check_generation_time(self, caller: Caller, deadline: float) -> None:
        """Raise OVERLOADED where a generation of this caller could not begin by its deadline."""
        self.generation_outlook.check(caller.name, deadline)

    async def wait_live(self) -> None:
        """Return once every worker has greeted."""
        while len(self.live) < self.workers:
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        """Drop all connections, which fails the work under way."""
        self._closed = True
        for link in self._links:
            await link.close()
        self._changed.set()

    def another(self, asked: WorkerLink) -> WorkerLink | None:
        """Return the live worker with the least work under way besides the one that was asked, if there is any."""
        return min((link for link in self.live if link is not asked), key=lambda link: link.tokens, default=None)

    async def least_loaded(self, give_up: float, deadline: float) -> WorkerLink:
        """Return the live worker with the least work under way.

        Raises WORKER_LOST or DEADLINE_EXCEEDED where none comes back.
        """
        while not (live := self.live):
            if self._closed:
                raise errors.model_replaced()
            self._changed.clear()
            try:
                with tracing.span("await worker"):
                    await asyncio.wait_for(self._changed.wait(), max(min(give_up, deadline) - time.monotonic(), 0.0))
            except TimeoutError:
                if deadline <= give_up:
                    raise errors.deadline_exceeded() from None
                raise errors.worker_lost("no worker is alive; one is being started") from None
        return min(live, key=lambda link: link.tokens)

    def _seconds_behind_own(self, caller: str) -> float:
        """Return after how many seconds all interactive work of a caller is done that is under way from here.

        Half of the batches at hand is done already, on average. Other frontends' work is not known: if there is any,
        workers refuse what would be late for that.
        """
        live = self.live
        if not self._under_way.tokens or not live:
            return 0.0
        batch_seconds = sum(link.wait.batch_seconds for link in live) / len(live)

        def seconds(tokens: float) -> float:
            return batch_seconds * (tokens / (self.interactive_tokens * len(live)) - 0.5)

        # Mostly there is little work in all, and no need to look at each caller.
        every = seconds(self._under_way.tokens)
        return every if every < LEAST_SLACK_SECONDS else seconds(self._under_way.tokens_until_done(caller))

    def _link_changed(self) -> None:
        self._changed.set()
        self._on_change()
