"""Which waiting work forms the next batch: a pure function over a sorted queue."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from bertstream.workers.contract import BULK, INTERACTIVE, Generate, Work

W = TypeVar("W", Work, Generate)

# How long work may wait before it is as urgent as work whose deadline is now. Interactive work goes first, and under a
# flood of it bulk work still gets its turn.
PATIENCE_SECONDS = {INTERACTIVE: 1.0, BULK: 20.0}
_LOOK_PAST = 256  # entries looked at after the first that does not fit


@dataclass(frozen=True, slots=True, order=True)
class Queued(Generic[W]):
    """Waiting work, ordered by urgency, then by arrival."""

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


def plan(waiting: Sequence[Entry], now: float, batch_tokens: int) -> Plan:
    """The most urgent entries that fit the token budget. `waiting` is sorted; work to be run alone gets its own batch.

    The first entry is always taken, so that nothing can wait for ever.
    """
    batch: list[Entry] = []
    expired: list[Entry] = []
    room, looked_past = batch_tokens, 0
    for candidate in waiting:
        if candidate.work.deadline <= now:
            expired.append(candidate)
        elif not batch or (candidate.tokens <= room and not _alone(candidate)):
            batch.append(candidate)
            room -= candidate.tokens
        else:
            looked_past += 1
        if room <= 0 or looked_past > _LOOK_PAST or (batch and _alone(batch[0])):
            break
    return Plan(tuple(batch), tuple(expired))


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
        gone = {id(each) for each in entries}
        for each in [each for each in self._entries if id(each) in gone]:
            self._by_key.pop((each.source, each.work.id), None)
            self.tokens -= each.tokens
        self._entries = [each for each in self._entries if id(each) not in gone]


class WaitingWork(SortedQueue[Work]):
    """The sorted queue that plans are made from."""

    def take(self, now: float, batch_tokens: int) -> Plan:
        """Plans the next batch and takes it out of the queue, with what has expired."""
        made = plan(self._entries, now, batch_tokens)
        self.remove((*made.batch, *made.expired))
        return made
