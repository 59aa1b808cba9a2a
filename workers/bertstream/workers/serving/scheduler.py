"""Which waiting work forms the next batch: a pure function over a sorted queue."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from bertstream.workers.contract import BULK, INTERACTIVE, Generate, Work

W = TypeVar("W", Work, Generate)

# How long work may wait before it is as urgent as work of its priority whose deadline is now.
PATIENCE_SECONDS = {INTERACTIVE: 1.0, BULK: 20.0}
# Interactive work goes before bulk work, which has a turn after so long without one. Counted from its last turn and not
# from its arrival: within a stream's window all of it waits for long, and is in no hurry.
TURN_SECONDS = 2.0
# Bulk work that joins interactive work has it wait longer, so together they are no more than this part of a batch.
_JOINING = 8
_LOOK_PAST = 256  # entries looked at after the first that does not fit


@dataclass(frozen=True, slots=True, order=True)
class Queued(Generic[W]):
    """Waiting work of one priority, ordered by urgency, then by arrival."""

    urgency: float  # the time by which it should have begun
    arrival: float
    work: W = field(compare=False)
    source: Any = field(compare=False)  # the connection that it came from
    tokens: int = field(compare=False)


Entry: TypeAlias = Queued[Work]


@dataclass(frozen=True, slots=True)
class Plan:
    """The next batch, and what must be answered as expired."""

    batch: tuple[Entry, ...]
    expired: tuple[Entry, ...]


def entry(work: Work, source: object, now: float) -> Entry:
    """Work that arrives now."""
    return queued(work, source, now, int(work.batch.ids.size))


def queued(work: W, source: object, now: float, tokens: int) -> Queued[W]:
    """Work of any kind that arrives now."""
    urgency = min(work.deadline, now + PATIENCE_SECONDS[work.priority])
    return Queued(urgency, now, work, source, tokens)


def plan(
    interactive: Sequence[Entry], bulk: Sequence[Entry], now: float, batch_tokens: int, bulk_turn: float = -math.inf
) -> Plan:
    """The most urgent entries that fit the token budget. Both are sorted; bulk work had its last turn at `bulk_turn`.

    The first entry is always taken, so that nothing can wait for ever. Work to be run alone gets its own batch.
    """
    filling = _Filling(now)
    head = next((each for each in bulk if each.work.deadline > now), None)
    if head and bulk_is_due(head, interactive, now, bulk_turn):
        filling.fill(bulk, batch_tokens)
        filling.fill(interactive, batch_tokens)
    else:
        filling.fill(interactive, batch_tokens)
        filling.fill(bulk, batch_tokens // _JOINING if filling.batch else batch_tokens)
    return Plan(tuple(filling.batch), tuple(filling.expired))


def bulk_is_due(head: Queued[W], interactive: Sequence[Queued[W]], now: float, bulk_turn: float) -> bool:
    """Whether this bulk work goes before interactive work: it has waited for its turn, or has the nearer deadline."""
    if not interactive:
        return True
    return now >= max(head.arrival, bulk_turn) + TURN_SECONDS or head.work.deadline < interactive[0].urgency


class _Filling:
    """A batch in the making."""

    def __init__(self, now: float) -> None:
        self.batch: list[Entry] = []
        self.expired: list[Entry] = []
        self._now = now
        self._tokens = 0
        self._looked_past = 0

    def fill(self, candidates: Sequence[Entry], limit: int) -> None:
        """Takes what fits into so many tokens, with what is in the batch already."""
        for candidate in candidates:
            if self._looked_past > _LOOK_PAST or (self.batch and (self._tokens >= limit or _alone(self.batch[0]))):
                return
            if candidate.work.deadline <= self._now:
                self.expired.append(candidate)
            elif not self.batch or (self._tokens + candidate.tokens <= limit and not _alone(candidate)):
                self.batch.append(candidate)
                self._tokens += candidate.tokens
            else:
                self._looked_past += 1


def _alone(candidate: Entry) -> bool:
    """Whether it must have a batch to itself: a suspect, or a step of a session."""
    return candidate.work.alone or bool(candidate.work.session)


class SortedQueue(Generic[W]):
    """What waits, the most urgent first. Not thread-safe; its owner holds a lock."""

    def __init__(self) -> None:
        self._entries: list[Queued[W]] = []
        self._by_key: dict[tuple[Any, int], Queued[W]] = {}
        self.tokens = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Queued[W]]:
        return iter(self._entries)

    @property
    def entries(self) -> Sequence[Queued[W]]:
        """As they are now."""
        return self._entries

    def add(self, new: Queued[W]) -> None:
        insort(self._entries, new)
        self._by_key[new.source, new.work.id] = new
        self.tokens += new.tokens

    def cancel(self, source: object, work_id: int) -> bool:
        """Drops one entry; False if it is not waiting (any more)."""
        gone = self._by_key.get((source, work_id))
        if gone is not None:
            self.remove((gone,))
        return gone is not None

    def cancel_all(self, source: object) -> None:
        """Drops all that came from one connection."""
        self.remove([each for each in self._entries if each.source is source])

    def remove(self, entries: Iterable[Queued[W]]) -> None:
        """Takes these out."""
        if not (gone := {id(each) for each in entries}):
            return
        for each in [each for each in self._entries if id(each) in gone]:
            self._by_key.pop((each.source, each.work.id), None)
            self.tokens -= each.tokens
        self._entries = [each for each in self._entries if id(each) not in gone]


class Waiting(Generic[W]):
    """A sorted queue for each priority. Not thread-safe; its owner holds a lock."""

    def __init__(self) -> None:
        self.interactive: SortedQueue[W] = SortedQueue()
        self.bulk: SortedQueue[W] = SortedQueue()

    @property
    def tokens(self) -> int:
        return self.interactive.tokens + self.bulk.tokens

    def __len__(self) -> int:
        return len(self.interactive) + len(self.bulk)

    def add(self, new: Queued[W]) -> None:
        (self.bulk if is_bulk(new) else self.interactive).add(new)

    def cancel(self, source: object, work_id: int) -> bool:
        """Drops one entry; False if it is not waiting (any more)."""
        return self.interactive.cancel(source, work_id) or self.bulk.cancel(source, work_id)

    def cancel_all(self, source: object) -> None:
        """Drops all that came from one connection."""
        self.interactive.cancel_all(source)
        self.bulk.cancel_all(source)

    def remove(self, entries: Sequence[Queued[W]]) -> None:
        """Takes these out."""
        self.interactive.remove([each for each in entries if not is_bulk(each)])
        self.bulk.remove([each for each in entries if is_bulk(each)])


class WaitingWork(Waiting[Work]):
    """What plans are made from."""

    def take(self, now: float, batch_tokens: int, bulk_turn: float = -math.inf) -> Plan:
        """Plans the next batch and takes it out of the queue, with what has expired."""
        return self._take(plan(self.interactive.entries, self.bulk.entries, now, batch_tokens, bulk_turn))

    def take_interactive(self, now: float, batch_tokens: int) -> Plan:
        """The same of interactive work alone."""
        return self._take(plan(self.interactive.entries, (), now, batch_tokens))

    def take_bulk(self, now: float, batch_tokens: int) -> Plan:
        """The same of bulk work alone."""
        return self._take(plan((), self.bulk.entries, now, batch_tokens))

    def _take(self, made: Plan) -> Plan:
        self.remove((*made.batch, *made.expired))
        return made


def is_bulk(entry: Queued[W]) -> bool:
    """Whether it lets interactive work go first."""
    return entry.work.priority == BULK
