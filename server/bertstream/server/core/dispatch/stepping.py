"""A computation in steps, each of higher layers than the one before, on one worker as long as that lives."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable

from bertstream.server.core import tracing
from bertstream.server.core.callers import NOBODY, Caller
from bertstream.server.core.dispatch.attempts import Attempts
from bertstream.server.core.dispatch.fleet import Fleet
from bertstream.server.core.dispatch.link import WorkerLink
from bertstream.workers.contract import Batch, Failure, OutputOptions, Result, Work

_numbers = itertools.count(1)


class Stepping:
    """Some texts on their way through the layers; where their worker is lost, another one starts anew."""

    def __init__(self, fleet: Fleet, batch: Batch, priority: int, deadline: float, caller: Caller = NOBODY) -> None:
        self._batch = batch
        self._priority = priority
        self._deadline = deadline
        self._caller = caller
        self._number = next(_numbers)
        self._link: WorkerLink | None = None
        self._attempts = Attempts(fleet, deadline, waits=False, caller=caller)

    async def step(self, output_options: OutputOptions, *, final: bool) -> Result:
        """Return the outputs asked for, or raise RequestError; cancelling this cancels the step."""

        def attempt(link: WorkerLink) -> Awaitable[Result | Failure]:
            if self._link is not None and self._link is not link:
                self._link.forget_session(self._number)  # it had no time, or is gone
            self._link = link
            work = Work(
                0,
                self._batch,
                output_options,
                self._priority,
                self._deadline,
                session=self._number,
                final=final,
                caller=self._caller.name,
                weight=self._caller.weight,
                admitted=self._attempts.admitted,
            )
            return link.call(work)

        with tracing.span("step") as span:
            span.set(outputs=",".join(output_options.outputs))
            if not {"hidden_states", "attentions"}.isdisjoint(output_options.outputs):
                span.set(layer=max(output_options.hidden_layers + output_options.attention_layers))
            return await self._attempts.run(attempt, self._link)

    def close(self) -> None:
        """Let the worker forget the states."""
        if self._link is not None:
            self._link.forget_session(self._number)
