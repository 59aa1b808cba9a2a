"""The worker's queue: where waiting work is bounded, cancelled, expired, and taken in batches."""

from __future__ import annotations

import threading
import time

from bertstream.workers.contract import Work
from bertstream.workers.scheduler import Plan, WaitingWork, entry


class WorkQueue:
    """Shared by the connections, which add, and the engine, which takes. Bounded in tokens."""

    def __init__(self, queue_tokens: int, batch_tokens: int) -> None:
        self.queue_tokens = queue_tokens
        self.batch_tokens = batch_tokens
        self._waiting = WaitingWork()
        self._changed = threading.Condition()
        self._idle = False
        self._closed = False

    @property
    def waiting_tokens(self) -> int:
        """Tokens that wait now."""
        return self._waiting.tokens

    def add(self, work: Work, source: object) -> bool:
        """False if the queue is full; an empty queue takes anything."""
        with self._changed:
            if self._waiting.tokens and self._waiting.tokens + work.batch.ids.size > self.queue_tokens:
                return False
            self._waiting.add(entry(work, source, time.monotonic()))
            self._changed.notify()
            return True

    def cancel(self, source: object, work_ids: tuple[int, ...]) -> None:
        """Drops what is still waiting of these."""
        with self._changed:
            for work_id in work_ids:
                self._waiting.cancel(source, work_id)

    def forget(self, source: object) -> None:
        """Drops all that a lost connection sent."""
        with self._changed:
            self._waiting.cancel_all(source)

    def engine_is_idle(self) -> None:
        """From now on, and until the next `take` returns, whatever waits is taken at once."""
        with self._changed:
            self._idle = True
            self._changed.notify()

    def engine_is_busy(self) -> None:
        """It was woken, or had a batch before it could be told that it was idle."""
        with self._changed:
            self._idle = False

    def take(self) -> Plan | None:
        """Blocks for the next batch; None once closed.

        While the engine computes, only a batch that is full already is taken ahead: a smaller one may yet grow.
        """
        with self._changed:
            while not self._closed:
                if len(self._waiting) and (self._idle or self._waiting.tokens >= self.batch_tokens):
                    plan = self._waiting.take(time.monotonic(), self.batch_tokens)
                    self._idle = self._idle and not plan.batch
                    return plan
                self._changed.wait()
            return None

    def take_now(self) -> Plan:
        """What waits, if anything; for an engine that has other things to do, too."""
        with self._changed:
            return self._waiting.take(time.monotonic(), self.batch_tokens)

    def close(self) -> None:
        """Makes `take` return None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
