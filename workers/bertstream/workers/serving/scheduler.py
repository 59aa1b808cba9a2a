"""Choose which waiting work forms the next batch, by a pure function of what waits, in order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeAlias

from bertstream.workers.contract import BULK, INTERACTIVE, Work
from bertstream.workers.serving.fair import FairQueue, Queued, W
from bertstream.workers.serving.pace import Pace

# How long work may wait before it is as urgent as work of its priority whose deadline is now.
PATIENCE_SECONDS = {INTERACTIVE: 1.0, BULK: 20.0}
# Interactive work goes before bulk work, which has a turn after this long without one. It is counted from its last
# turn, not from its arrival: within a stream's window all bulk work waits for long, and is in no hurry.
TURN_SECONDS = 2.0
MARGIN_SECONDS = 0.002  # before a deadline, for sending the answer
# Bulk work that joins interactive work makes it wait longer, so together they are at most this part of a batch.
_JOINING = 8
_LOOK_PAST = 256  # entries looked at after the first that does not fit

Entry: TypeAlias = Queued[Work]


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold the next batch, and what is not computed: expired, or late by the time that it would be ready."""

    batch: tuple[Entry, ...]
    expired: tuple[Entry, ...]
    overloaded: tuple[Entry, ...] = ()

    @property
    def tokens(self) -> int:
        """Return the tokens of the batch."""
        return sum(each.tokens for each in self.batch)


@dataclass(frozen=True, slots=True)
class BatchBounds:
    """Hold the most tokens of a batch, and of one in which interactive work goes first, for which others wait."""

    tokens: int
    interactive_tokens: int

    @property
    def joining_tokens(self) -> int:
        """Return the tokens up to which bulk work joins interactive work."""
        return min(self.tokens // _JOINING, self.interactive_tokens)


@dataclass(frozen=True, slots=True)
class Timing:
    """Tell whether a batch would be ready in time; where nothing was measured, it takes no time."""

    begins: float = -math.inf
    pace: Pace = field(default_factory=Pace)
    least_tokens: float = 0  # the least tokens whose cost is expected
    # Whether work is computed whatever the pace says, since nothing else is: else a wrong pace would never be measured.
    always: bool = False

    def in_time(self, tokens: float, deadline: float) -> bool:
        """Return whether a batch of this many tokens is ready by then."""
        return self.begins + self.pace.careful_seconds(max(tokens, self.least_tokens)) + MARGIN_SECONDS <= deadline


def entry(work: Work, source: object, now: float, *, promised: bool = False) -> Entry:
    """Return the entry of work that arrives now."""
    return queued(work, source, now, int(work.batch.ids.size), promised=promised)


def queued(work: W, source: object, now: float, tokens: int, *, promised: bool = False) -> Queued[W]:
    """Return the entry of work of any kind that arrives now."""
    urgency = min(work.deadline, now + PATIENCE_SECONDS[work.priority])
    return Queued(urgency, now, work, source, tokens, promised)


def plan(
    interactive: Iterable[Entry],
    bulk: Iterable[Entry],
    now: float,
    bounds: BatchBounds,
    bulk_turn: float = -math.inf,
    timing: Timing | None = None,
) -> Plan:
    """Return the first entries that fit the token budget.

    Both queues are in order; bulk work had its last turn at `bulk_turn`.

    The first entry that can be ready in time is always taken, so that nothing can wait for ever. A batch has no more
    than can be ready by the first deadline in it. Work to be run alone gets its own batch.
    """
    filling = _Filling(now, timing or Timing())
    head = next((each for each in bulk if each.work.deadline > now), None)
    if head and bulk_is_due(head, interactive, now, bulk_turn):
        filling.fill(bulk, bounds.tokens)
        filling.fill(interactive, bounds.tokens)
    else:
        filling.fill(interactive, bounds.interactive_tokens)
        filling.fill(bulk, bounds.joining_tokens if filling.batch else bounds.tokens)
    return filling.made()


def bulk_is_due(head: Queued[W], interactive: Iterable[Queued[W]], now: float, bulk_turn: float) -> bool:
    """Return whether this bulk work goes first, since it has waited for its turn, or has the nearer deadline."""
    first = next(iter(interactive), None)
    if first is None:
        return True
    return now >= max(head.arrival, bulk_turn) + TURN_SECONDS or head.work.deadline < first.urgency


class _Filling:
    """Fill a batch."""

    def __init__(self, now: float, timing: Timing) -> None:
        self.batch: list[Entry] = []
        self._expired: list[Entry] = []
        self._overloaded: list[Entry] = []
        self._now = now
        self._timing = timing
        self._tokens = 0
        self._first_deadline = math.inf
        self._looked_past = 0

    def fill(self, candidates: Iterable[Entry], limit: int) -> None:
        """Take what fits into `limit` tokens, with what is in the batch already."""
        for candidate in candidates:
            if self._looked_past > _LOOK_PAST or (self.batch and (self._tokens >= limit or _alone(self.batch[0]))):
                return
            if candidate.work.deadline <= self._now:
                self._expired.append(candidate)
            elif self.batch and (self._tokens + candidate.tokens > limit or _alone(candidate)):
                self._looked_past += 1
            elif not self._in_time(candidate, candidate.work.deadline):
                self._overloaded.append(candidate)
            elif self.batch and not self._in_time(candidate, self._first_deadline):
                self._looked_past += 1
            else:
                self._take(candidate)

    def _in_time(self, candidate: Entry, deadline: float) -> bool:
        """Return whether the batch with this one is ready by then."""
        return candidate.promised or self._timing.in_time(self._tokens + candidate.tokens, deadline)

    def _take(self, candidate: Entry) -> None:
        self.batch.append(candidate)
        self._tokens += candidate.tokens
        if not candidate.promised:
            self._first_deadline = min(self._first_deadline, candidate.work.deadline)

    def made(self) -> Plan:
        """Return the plan for the batch."""
        if self._overloaded and not self.batch and self._timing.always:
            self._take(self._overloaded.pop())
        return Plan(tuple(self.batch), tuple(self._expired), tuple(self._overloaded))


def _alone(candidate: Entry) -> bool:
    """Return whether it must have a batch to itself: a suspect, or a step of a session."""
    return candidate.work.alone or bool(candidate.work.session)


class Waiting(Generic[W]):
    """Keep a queue for each priority.

    Not thread-safe; its owner holds a lock.
    """

    def __init__(self) -> None:
        self.interactive: FairQueue[W] = FairQueue()
        self.bulk: FairQueue[W] = FairQueue()

    @property
    def tokens(self) -> int:
        return self.interactive.tokens + self.bulk.tokens

    @property
    def by_priority(self) -> dict[int, int]:
        """Return the tokens of each priority."""
        return {INTERACTIVE: self.interactive.tokens, BULK: self.bulk.tokens}

    def __len__(self) -> int:
        return len(self.interactive) + len(self.bulk)

    def add(self, new: Queued[W]) -> None:
        self.of(new).add(new)

    def cancel(self, source: object, work_id: int) -> bool:
        """Drop one entry, and return whether it was still waiting."""
        return self.interactive.cancel(source, work_id) or self.bulk.cancel(source, work_id)

    def cancel_all(self, source: object) -> None:
        """Drop all that came from one connection."""
        self.interactive.cancel_all(source)
        self.bulk.cancel_all(source)

    def of(self, new: Queued[W]) -> FairQueue[W]:
        """Return the queue of its priority."""
        return self.bulk if is_bulk(new) else self.interactive

    def remove(self, entries: Sequence[Queued[W]]) -> None:
        """Take these entries out, without computing them."""
        self.interactive.remove([each for each in entries if not is_bulk(each)])
        self.bulk.remove([each for each in entries if is_bulk(each)])

    def serve(self, entries: Sequence[Queued[W]]) -> None:
        """Take these entries out to be computed."""
        self.interactive.serve([each for each in entries if not is_bulk(each)])
        self.bulk.serve([each for each in entries if is_bulk(each)])


class WaitingWork(Waiting[Work]):
    """Keep the waiting work that plans are made from."""

    def take(self, now: float, bounds: BatchBounds, bulk_turn: float = -math.inf, timing: Timing | None = None) -> Plan:
        """Plan the next batch and take it out of the queue, with what is not to be computed."""
        made = plan(self.interactive, self.bulk, now, bounds, bulk_turn, timing)
        return self._take(made, now, self.interactive, self.bulk)

    def take_interactive(self, now: float, bounds: BatchBounds, timing: Timing | None = None) -> Plan:
        """Plan and take a batch of interactive work alone."""
        return self._take(plan(self.interactive, (), now, bounds, timing=timing), now, self.interactive)

    def take_bulk(self, now: float, bounds: BatchBounds, timing: Timing | None = None) -> Plan:
        """Plan and take a batch of bulk work alone."""
        return self._take(plan((), self.bulk, now, bounds, timing=timing), now, self.bulk)

    def _take(self, made: Plan, now: float, *queues: FairQueue[Work]) -> Plan:
        self.remove((*made.expired, *made.overloaded))
        self.serve(made.batch)
        # Where callers take turns, entries may expire that the plan would not meet for long.
        expired = [each for queue in queues for each in queue.expired(now)]
        self.remove(expired)
        return replace(made, expired=(*made.expired, *expired))


def is_bulk(entry: Queued[W]) -> bool:
    """Return whether it lets interactive work go first."""
    return entry.work.priority == BULK
