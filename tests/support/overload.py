"""Simulate a worker: the real queue in a time of its own, and an engine that takes as long as it is told."""

from __future__ import annotations

import heapq
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from bertstream.workers.contract import BULK, INTERACTIVE, Batch, Failure, Work
from bertstream.workers.serving.queue import WorkQueue
from tests.support.works import MEAN


class Clock:
    """Stand still unless moved on."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@dataclass(order=True, slots=True)
class Call:
    """Describe a call: who asks, when, for how much, and what has become of it."""

    at: float
    tokens: int = field(compare=False)
    caller: str = field(default="", compare=False)
    seconds: float = field(default=math.inf, compare=False)  # until its deadline
    priority: int = field(default=INTERACTIVE, compare=False)
    weight: float = field(default=1.0, compare=False)
    answered: float = field(default=math.inf, compare=False)  # when
    refused: float = field(default=math.inf, compare=False)  # when
    failure: Failure | None = field(default=None, compare=False)

    @property
    def in_time(self) -> bool:
        return self.answered <= self.at + self.seconds

    @property
    def wait(self) -> float:
        """Return the seconds from the call until its answer."""
        return self.answered - self.at


Engine = Callable[[int, float], float]  # tokens and the time -> seconds
Again = Callable[[Call, float], Call | None]  # returns what a caller sends once it was answered or refused


class Simulated:
    """Let calls come at their times, and take each batch as the engine's loop does."""

    def __init__(
        self,
        clock: Clock,
        engine: Engine,
        batch_tokens: int = 1024,
        queue_seconds: float = 30.0,
        interactive_tokens: int = 490,
    ) -> None:
        self.queue = WorkQueue(1 << 30, batch_tokens, queue_seconds)
        self.queue.interactive_tokens = min(batch_tokens, interactive_tokens)
        self.calls: list[Call] = []
        self.computed: defaultdict[str, int] = defaultdict(int)  # tokens, by caller
        self._clock = clock
        self._engine = engine
        self._again: Again = lambda call, now: None
        self._coming: list[Call] = []
        self._batches = 0

    def run(self, calls: Iterable[Call], until: float = math.inf, again: Again = lambda call, now: None) -> None:
        """Run until all calls were answered, or for `until` seconds."""
        end, self._again = self._clock.now + until, again
        for call in calls:
            heapq.heappush(self._coming, call)
        while self._clock.now < end and (self._coming or self.queue.waiting_tokens):
            self._arrive(self._clock.now)
            plan = self.queue.take_now()
            for entry in (*plan.expired, *plan.overloaded):
                self._refuse(self.calls[entry.work.id], Failure(entry.work.id, "overloaded", ""))
            if plan.batch:
                self._compute([self.calls[entry.work.id] for entry in plan.batch])
            elif self._coming and not (plan.expired or plan.overloaded):
                self._clock.now = max(self._clock.now, self._coming[0].at)

    def _compute(self, batch: list[Call]) -> None:
        tokens = sum(call.tokens for call in batch)
        done = self._clock.now + self._engine(tokens, self._clock.now)
        self._arrive(done)
        self._clock.now = done
        self.queue.computed()
        for call in batch:
            call.answered = done
            self.computed[call.caller] += call.tokens
            self._next(call)

    def _arrive(self, until: float) -> None:
        while self._coming and self._coming[0].at <= until:
            call = heapq.heappop(self._coming)
            self._clock.now = max(self._clock.now, call.at)
            failure = self.queue.add(self._work(call), self)
            if failure is not None:
                self._refuse(call, failure)

    def _work(self, call: Call) -> Work:
        self.calls.append(call)
        batch = Batch(np.zeros(call.tokens, np.int32), np.array([call.tokens], np.int32))
        deadline = call.at + call.seconds
        number = len(self.calls) - 1
        return Work(number, batch, MEAN, call.priority, deadline, caller=call.caller, weight=call.weight)

    def _refuse(self, call: Call, failure: Failure) -> None:
        call.refused, call.failure = self._clock.now, failure
        self._next(call)

    def _next(self, call: Call) -> None:
        if (following := self._again(call, self._clock.now)) is not None:
            heapq.heappush(self._coming, following)


def engine(fixed: float, each: float, noise: float = 0.0, seed: int = 1) -> Engine:
    """Return an engine by the seconds of a batch and of a token, with random noise as a part of these."""
    dice = random.Random(seed)
    return lambda tokens, now: (fixed + each * tokens) * dice.uniform(1 - noise, 1 + noise)


def open_loop(
    start: float, until: float, a_second: float, size: Callable[[random.Random], int], seed: int = 2, **options: object
) -> Iterator[Call]:
    """Yield calls at random times, whatever becomes of those before."""
    dice, at = random.Random(seed), start
    while (at := at + dice.expovariate(a_second)) < until:
        yield Call(at, size(dice), **options)  # type: ignore[arg-type]


def bulk_calls(start: float, seconds: float, tokens: int, a_second: float) -> list[Call]:
    """Return the calls of a stream."""
    return [Call(start + n / a_second, tokens, "stream", priority=BULK) for n in range(int(seconds * a_second))]
