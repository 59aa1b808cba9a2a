"""Queue the worker's waiting work: bound, refuse, cancel and expire it, and take it in batches."""

from __future__ import annotations

import math
import threading
import time

from bertstream.workers.contract import Failure, Work
from bertstream.workers.serving.outlook import Outlook, overloaded, refused_for
from bertstream.workers.serving.pace import AtHand
from bertstream.workers.serving.scheduler import (
    TURN_SECONDS,
    BatchBounds,
    Entry,
    Plan,
    Timing,
    WaitingWork,
    bulk_is_due,
    entry,
    is_bulk,
)

_NOTHING = Plan((), ())


class WorkQueue:
    """Queue work for the engine, which takes it; the connections add it. Bounded in tokens, and in seconds."""

    def __init__(self, queue_tokens: int, batch_tokens: int, queue_seconds: float = math.inf) -> None:
        self.queue_tokens = queue_tokens
        self.batch_tokens = batch_tokens
        self.interactive_tokens = batch_tokens  # the most of a batch in which interactive work goes first
        self.queue_seconds = queue_seconds
        self._waiting = WaitingWork()
        self._changed = threading.Condition(lock := threading.RLock())  # awaited by whoever prepares batches
        self._has_work = threading.Condition(lock)  # awaited by the engine
        self._engine_waits = False
        self._woken = False
        self._closed = False
        self._ahead: Plan | None = None  # taken to be prepared, and not computed yet
        self._at_hand = AtHand()
        self._computing_bulk = False
        self._bulk_turn = -math.inf  # when bulk work was last computed

    @property
    def waiting_tokens(self) -> int:
        """Return the tokens that wait now."""
        return self._waiting.tokens

    @property
    def has_more(self) -> bool:
        """Return whether there is work beside what is being computed."""
        return bool(self._waiting.tokens or self._ahead)

    @property
    def waiting_by_priority(self) -> dict[int, int]:
        """Return the tokens of each priority that wait now."""
        return self._waiting.by_priority

    @property
    def wait_seconds(self) -> float:
        """Return how long small interactive work would have to wait now, from a caller with nothing else waiting."""
        with self._changed:
            return self._outlook(time.monotonic()).wait_seconds

    @property
    def batch_seconds(self) -> float:
        """Return how long a full batch of interactive work takes; 0 before any batch was computed."""
        with self._changed:
            return self._at_hand.pace.seconds(self.interactive_tokens)

    def add(self, work: Work, source: object, *, promised: bool = False) -> Failure | None:
        """Add work, or return why it cannot wait.

        An idle worker takes anything. promised: never refused for time.
        """
        with self._changed:
            if self._waiting.tokens and self._waiting.tokens + work.batch.ids.size > self.queue_tokens:
                return Failure(work.id, "queue_full", f"{self._waiting.tokens} tokens wait already")
            now = time.monotonic()
            promised = promised or work.alone or work.admitted
            new, outlook = entry(work, source, now, promised=promised), self._outlook(now)
            if retry := refused_for(outlook, new, self.queue_seconds):
                self._waiting.of(new).refused(new)
                return overloaded(work, retry, outlook.wait_seconds)
            self._waiting.add(new)
            if self._engine_waits:
                self._has_work.notify()
            else:
                self._have_prepared()
            return None

    def computed(self) -> None:
        """Note that the engine is done with the first of the batches that it has taken."""
        with self._changed:
            self._at_hand.done(time.monotonic())

    def cancel(self, source: object, work_ids: tuple[int, ...]) -> None:
        """Drop those of these works that still wait."""
        with self._changed:
            for work_id in work_ids:
                self._waiting.cancel(source, work_id)

    def forget(self, source: object) -> None:
        """Drop all that a lost connection sent."""
        with self._changed:
            self._waiting.cancel_all(source)

    def wait_for_work(self) -> bool:
        """Wait until the idle engine has something to do; return whether that is the batch that was taken ahead.

        So it is once the queue is closed, as whoever takes batches ahead then tells the engine of the end. What waits
        is for the engine itself to take: to have it prepared by another thread first would only take longer.
        """
        with self._changed:
            self._engine_waits = True
            while not (self._woken or self._closed or self._ahead or len(self._waiting)):
                self._has_work.wait()
            self._engine_waits = self._woken = False
            return self._closed or self._ahead is not None

    def wake(self) -> None:
        """Have the engine look for something else to do, now, or instead of its next wait."""
        with self._changed:
            self._woken = True
            self._has_work.notify()

    def prepared_is_taken(self) -> None:
        """Note that the engine computes the batch that was taken ahead."""
        with self._changed:
            if self._ahead is not None:
                self._computes(self._ahead)
                self._ahead = None
                self._changed.notify()

    def take(self) -> Plan | None:
        """Return the next batch to prepare, waiting for it; None once closed.

        One batch is prepared ahead, and only one that is already full: a smaller one may yet grow. A full batch of bulk
        work has no interactive work in it, which the engine takes itself as soon as it can.
        """
        with self._changed:
            while not self._closed:
                plan = None if self._ahead else self._plan_ahead()
                if plan is not None:
                    self._ahead = plan if plan.batch else None
                    self._has_work.notify()
                    return plan
                self._changed.wait()
            return None

    def _have_prepared(self) -> None:
        """Wake whoever prepares batches where one is full."""
        if self._ahead is None and (self._interactive_is_full or self._bulk_is_full):
            self._changed.notify()

    def _plan_ahead(self) -> Plan | None:
        waiting, now = self._waiting, time.monotonic()
        if self._interactive_is_full:
            return waiting.take(now, self._bounds, self._bulk_turn, self._timing(now))
        if self._bulk_is_full:
            return waiting.take_bulk(now, self._bounds, self._timing(now))
        return None

    @property
    def _interactive_is_full(self) -> bool:
        return self._waiting.interactive.tokens >= self.interactive_tokens

    @property
    def _bulk_is_full(self) -> bool:
        return self._waiting.bulk.tokens >= self.batch_tokens

    def take_now(self) -> Plan:
        """Return what to compute before the batch that was taken ahead, or what waits where there is none."""
        with self._changed:
            now = time.monotonic()
            if self._computing_bulk:
                self._computing_bulk, self._bulk_turn = False, now
            plan = _NOTHING if self._closed else self._plan_now(now)
            self._computes(plan)
            self._have_prepared()
            return plan

    def _plan_now(self, now: float) -> Plan:
        waiting = self._waiting
        if self._ahead is None:
            return waiting.take(now, self._bounds, self._bulk_turn, self._timing(now))
        head = self._ahead.batch[0]
        if not is_bulk(head) or bulk_is_due(head, waiting.interactive, now, self._bulk_turn):
            return _NOTHING
        return waiting.take_interactive(now, self._bounds, self._timing(now))

    @property
    def _bounds(self) -> BatchBounds:
        return BatchBounds(self.batch_tokens, self.interactive_tokens)

    def _computes(self, plan: Plan) -> None:
        self._computing_bulk = bool(plan.batch) and is_bulk(plan.batch[0])
        if plan.batch:
            self._at_hand.begin(plan.tokens, min(each.arrival for each in plan.batch))

    def _timing(self, now: float) -> Timing | None:
        """Return the timing of a batch that is taken now; None while nothing was measured."""
        pace, waiting = self._at_hand.pace, self._waiting
        if not pace.measured:
            return None
        most = self.interactive_tokens if waiting.interactive.tokens else self.batch_tokens
        least = min(pace.efficient_tokens, waiting.interactive.tokens or waiting.bulk.tokens, most)
        return Timing(
            begins=now + self._at_hand.left_seconds(now),
            pace=pace,
            least_tokens=least,
            always=not len(self._at_hand) and self._ahead is None,
        )

    def _outlook(self, now: float) -> Outlook:
        left, ahead = self._at_hand.left_seconds(now), self._ahead or _NOTHING
        ahead_is_bulk = bool(ahead.batch) and is_bulk(ahead.batch[0])
        return Outlook(
            now=now,
            waiting=self._waiting,
            pace=self._at_hand.pace,
            bounds=self._bounds,
            left_seconds=left,
            prepared_tokens=0 if ahead_is_bulk else ahead.tokens,
            prepared_bulk_tokens=ahead.tokens if ahead_is_bulk else 0,
            bulk_turn_seconds=self._bulk_turn_seconds(now, left, ahead.batch[0] if ahead_is_bulk else None),
        )

    def _bulk_turn_seconds(self, now: float, left: float, ahead: Entry | None) -> float:
        """Return how long it takes until bulk work has a turn, if any waits."""
        if self._computing_bulk:
            return left + TURN_SECONDS
        head = ahead or next(iter(self._waiting.bulk), None)
        return max(0.0, max(head.arrival, self._bulk_turn) + TURN_SECONDS - now) if head else 0.0

    def close(self) -> None:
        """Make `take` return None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._has_work.notify_all()
