"""One generation, on one worker after another until one has completed it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from bertstream.server.core import errors
from bertstream.server.core.callers import NOBODY, Caller
from bertstream.server.core.dispatch.attempts import Attempts
from bertstream.server.core.dispatch.fleet import Fleet
from bertstream.server.core.dispatch.link import NewTokens, Sink, WorkerLink
from bertstream.workers.contract import Completed, Failure, Generate


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a generation."""

    completed: Completed | None  # None where the sink wanted no more
    queue_seconds: float
    compute_seconds: float


async def generate(
    fleet: Fleet, work: Generate, cost: int, caller: Caller = NOBODY, *, waits: bool, sink: Sink | None = None
) -> Finished:
    """Run one generation, of at most `cost` tokens; where its worker is lost, another one starts anew.

    Tokens that it computes again are not passed on again: the same work with the same seed has the same tokens.
    waits: whether to wait while a worker's queue is full. Cancelling this cancels the work. Raises RequestError.
    """
    attempts, replay = Attempts(fleet, work.deadline, waits=waits, caller=caller, generates=True), _Replay(sink)

    async def attempt(link: WorkerLink) -> Finished | Failure:
        sent = time.monotonic()
        answer = await link.generate(
            replace(work, alone=attempts.deaths > 0, admitted=attempts.admitted), cost, replay.begin()
        )
        if replay.differs:
            raise errors.worker_lost("the worker was lost, and another one goes on with other tokens: begin again")
        if answer is None:
            return Finished(None, 0.0, time.monotonic() - sent)
        if isinstance(answer, Failure):
            return answer
        return Finished(answer, answer.queue_seconds, answer.compute_seconds)

    return await attempts.run(attempt)


class _Replay:
    """Passes on each token once, however often the generation starts anew."""

    def __init__(self, sink: Sink | None) -> None:
        self._sink = sink
        self._passed_on: defaultdict[int, list[int]] = defaultdict(list)  # tokens of each sequence that were passed on
        self._repeated: defaultdict[int, int] = defaultdict(int)  # how many of these came again since the last start
        self.differs = False

    def begin(self) -> Sink | None:
        """Return the sink for the next worker, or None where nobody wants the tokens as they come."""
        self._repeated.clear()
        return None if self._sink is None else self._take

    def _take(self, new: NewTokens) -> bool:
        fresh = [i for i, each in enumerate(_pairs(new)) if self._is_new(*each)]
        if self.differs:
            return False
        if len(fresh) < new.tokens.size:
            new = NewTokens(new.sequences[fresh], new.tokens[fresh], new.scores[fresh])
        return self._sink(new) if self._sink and fresh else True

    def _is_new(self, sequence: int, token: int) -> bool:
        known, place = self._passed_on[sequence], self._repeated[sequence]
        self._repeated[sequence] += 1
        if place == len(known):
            known.append(token)
            return True
        self.differs |= known[place] != token
        return False


def _pairs(new: NewTokens) -> Iterable[tuple[int, int]]:
    return zip(new.sequences.tolist(), new.tokens.tolist(), strict=True)
