"""A bound on the tokens under way for one model, within the callers' quotas: unary calls fail fast, streams wait."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from bertstream.server.core import tracing
from bertstream.server.core.callers import Caller
from bertstream.server.core.errors import RequestError, overloaded
from bertstream.server.core.measures import AdmissionMeasures
from bertstream.server.core.permits import Permits
from bertstream.workers.contract import BULK

_SMOOTHING_SECONDS = 5.0


class Admission:
    """Streams may hold half of the bound, so that there is always room for unary calls."""

    def __init__(self, queue_tokens: int, measures: AdmissionMeasures | None = None) -> None:
        self._measures = measures or AdmissionMeasures()
        self._all = Permits(queue_tokens)
        self._streams = Permits(max(1, queue_tokens // 2))
        self._rate = _Rate()

    @property
    def tokens(self) -> int:
        """Tokens under way."""
        return self._all.held

    @property
    def fullness(self) -> float:
        """The part of the bound that is under way."""
        return self._all.held / self._all.limit

    def check(self, caller: Caller) -> None:
        """Raise OVERLOADED or QUOTA_EXCEEDED where nothing more would be admitted, before any work for a call."""
        caller.quota.check()
        if self._all.is_full(caller):
            raise self._overloaded()

    @contextmanager
    def unary(self, tokens: int, caller: Caller, *, texts: int = 1) -> Iterator[None]:
        """Hold the tokens of some texts while the body runs; raise OVERLOADED for want of room, or QUOTA_EXCEEDED.

        What is not admitted is not charged.
        """
        held = self._acquire(tokens, caller)
        try:
            self._measures.admitted(texts, tokens, caller)
            yield
        finally:
            self._rate.add(tokens)
            self._all.release(held, caller)

    @asynccontextmanager
    async def room(
        self, tokens: int, caller: Caller, priority: int, *, texts: int = 1, waits: bool
    ) -> AsyncIterator[None]:
        """Hold the tokens while the body runs: wait for them where `waits`, as streams do, or raise as `unary` does."""
        async with AsyncExitStack() as held:
            if not waits:
                held.enter_context(self.unary(tokens, caller, texts=texts))
            elif priority == BULK:
                await held.enter_async_context(self.stream(tokens, caller, texts=texts))
            else:
                await held.enter_async_context(self.interactive_stream(tokens, caller, texts=texts))
            yield

    @asynccontextmanager
    async def stream(self, tokens: int, caller: Caller, *, texts: int = 1, charged: bool = True) -> AsyncIterator[None]:
        """Wait for quota and room, then hold the tokens (half of the bound, if they are more) while the body runs.

        charged: whether these tokens count, for the caller's quota too, since each token is charged only once.
        """
        count = min(tokens, self._streams.limit)
        async with AsyncExitStack() as held:
            with tracing.span("admit") as span:
                span.set(tokens=tokens)
                if charged:
                    await caller.quota.pay(tokens)
                await held.enter_async_context(self._streams.holding(count, caller))
                await held.enter_async_context(self._all.holding(count, caller))
            if charged:
                self._measures.admitted(texts, tokens, caller)
            yield
        self._rate.add(tokens)

    @asynccontextmanager
    async def interactive_stream(self, tokens: int, caller: Caller, *, texts: int = 1) -> AsyncIterator[None]:
        """Do as `stream` for few texts, but within the whole bound, so that they do not wait behind bulk streams."""
        async with AsyncExitStack() as held:
            with tracing.span("admit") as span:
                span.set(tokens=tokens)
                await caller.quota.pay(tokens)
                await held.enter_async_context(self._all.holding(tokens, caller))
            self._measures.admitted(texts, tokens, caller)
            yield
        self._rate.add(tokens)

    def _acquire(self, tokens: int, caller: Caller) -> int:
        """Return what to release; raise OVERLOADED or QUOTA_EXCEEDED."""
        with tracing.span("admit") as span:
            span.set(tokens=tokens)
            held = self._all.try_acquire(tokens, caller)
            if held is None:
                raise self._overloaded()
            try:
                caller.quota.charge(tokens)
            except BaseException:
                self._all.release(held, caller)
                raise
            return held

    def _overloaded(self) -> RequestError:
        seconds = min(max(self._all.held / 4 / self._rate.per_second, 0.1), 10.0)
        return overloaded(f"{self._all.held} tokens wait already; the bound is {self._all.limit}", round(seconds, 3))


class _Rate:
    """Tokens a second over the last seconds, as an average in which older tokens count exponentially less."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._at = time.monotonic()

    def add(self, tokens: int) -> None:
        now = time.monotonic()
        self._tokens = self._tokens * math.exp((self._at - now) / _SMOOTHING_SECONDS) + tokens
        self._at = now

    @property
    def per_second(self) -> float:
        return max(self._tokens / _SMOOTHING_SECONDS, 1000.0)
