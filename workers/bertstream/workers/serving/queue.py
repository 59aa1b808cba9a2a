"""The worker's queue: where waiting work is bounded, cancelled, expired, and taken in batches."""

from __future__ import annotations

import math
import threading
import time

from bertstream.workers.contract import Work
from bertstream.workers.serving.scheduler import Plan, WaitingWork, bulk_is_due, entry, is_bulk

_NOTHING = Plan((), ())


class WorkQueue:
    """Shared by the connections, which add, and the engine, which takes. Bounded in tokens."""

    def __init__(self, queue_tokens: int, batch_tokens: int) -> None:
        self.queue_tokens = queue_tokens
        self.batch_tokens = batch_tokens
        self._waiting = WaitingWork()
        self._changed = threading.Condition()
        self._idle = False
        self._closed = False
        self._ahead: Plan | None = None  # taken to be prepared, and not computed yet
        self._computing_bulk = False
        self._bulk_turn = -math.inf  # when bulk work was computed last

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
        """Until it says that it is busy, whatever waits is taken at once."""
        with self._changed:
            self._idle = True
            self._changed.notify()

    def engine_is_busy(self, *, with_prepared: bool) -> None:
        """It goes on, with the batch that was taken ahead or for another reason."""
        with self._changed:
            self._idle = False
            if with_prepared and self._ahead is not None:
                self._computes(self._ahead)
                self._ahead = None
                self._changed.notify()

    def take(self) -> Plan | None:
        """Blocks for the next batch to prepare; None once closed.

        One is prepared ahead. While the engine computes, only a batch that is full already is: a smaller one may yet
        grow. And no bulk work is with interactive work in it, which the engine takes for itself as soon as it can.
        """
        with self._changed:
            while not self._closed:
                plan = None if self._ahead else self._plan_ahead()
                if plan is not None:
                    self._ahead = plan if plan.batch else None
                    return plan
                self._changed.wait()
            return None

    def _plan_ahead(self) -> Plan | None:
        waiting, now = self._waiting, time.monotonic()
        if waiting.interactive.tokens >= self.batch_tokens or (self._idle and len(waiting)):
            return waiting.take(now, self.batch_tokens, self._bulk_turn)
        if waiting.bulk.tokens >= self.batch_tokens:
            return waiting.take_bulk(now, self.batch_tokens)
        return None

    def take_now(self) -> Plan:
        """What the engine is to compute before the batch that was taken ahead; where there is none, what waits."""
        with self._changed:
            now = time.monotonic()
            if self._computing_bulk:
                self._computing_bulk, self._bulk_turn = False, now
            plan = _NOTHING if self._closed else self._plan_now(now)
            self._computes(plan)
            return plan

    def _plan_now(self, now: float) -> Plan:
        waiting = self._waiting
        if self._ahead is None:
            return waiting.take(now, self.batch_tokens, self._bulk_turn)
        head = self._ahead.batch[0]
        if not is_bulk(head) or bulk_is_due(head, waiting.interactive.entries, now, self._bulk_turn):
            return _NOTHING
        return waiting.take_interactive(now, self.batch_tokens)

    def _computes(self, plan: Plan) -> None:
        self._computing_bulk = bool(plan.batch) and is_bulk(plan.batch[0])

    def close(self) -> None:
        """Makes `take` return None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
