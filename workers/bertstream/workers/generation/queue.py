"""Queue generations: bound, refuse, cancel and expire them, and admit those for which there is room."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, TypeAlias

import numpy as np

from bertstream.workers.contract import Failure, Generate
from bertstream.workers.generation.forecast import Forecast, Need
from bertstream.workers.generation.turns import Crowd, TurnPace, turns_until
from bertstream.workers.serving.fair import Queued
from bertstream.workers.serving.outlook import overloaded
from bertstream.workers.serving.scheduler import Waiting, bulk_is_due, is_bulk, queued

# A part of a step's sequences is free of all but short interactive work, which has at most this many new tokens. A part
# of the cache, and another part of the sequences, is free of bulk work.
SHORT_TURNS = 64
_PARTS = 8
_LIKE = 32  # entries that are taken as typical of all that wait
_LOOK_AT = 4096  # entries of one priority looked at, which takes some milliseconds

Entry: TypeAlias = Queued[Generate]
Key: TypeAlias = tuple[Any, int]  # the connection and the work's id


def key_of(entry: Entry) -> Key:
    """Return the key by which the entry is cancelled."""
    return entry.source, entry.work.id


def answers_of(work: Generate) -> int:
    """Return how many of its sequences are computed side by side."""
    return work.options.num_beams if work.options.num_beams > 1 else work.options.num_return_sequences


def rows_of(work: Generate) -> int:
    """Return the most rows of the cache that it may come to hold."""
    return int(work.ids.size) + work.options.max_new_tokens * answers_of(work)


def need_of(work: Generate) -> Need:
    """Return the most rows that it may come to hold, turn by turn."""
    return Need(int(work.ids.size), answers_of(work), work.options.max_new_tokens)


def is_short(entry: Entry) -> bool:
    """Return whether it is short work, for which long work leaves room."""
    return not is_bulk(entry) and entry.work.options.max_new_tokens <= SHORT_TURNS


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Hold an entry that has joined, and how long ago."""

    entry: Entry
    turns: int  # since it joined


@dataclass(frozen=True, slots=True)
class Room:
    """Hold the room that there is for all, and who has taken some of it."""

    rows: int  # of the cache
    sequences: int  # in one step; a single Generate may have more
    tokens: int  # of inputs computed at once; the first to join may have more
    under_way: Sequence[UnderWay] = ()

    @property
    def needs(self) -> list[Need]:
        """Return what those under way still need."""
        return [need_of(each.entry.work).after(each.turns) for each in self.under_way]


@dataclass(frozen=True, slots=True)
class Admission:
    """Hold the entries that join, and those that no longer can: expired, or late by the end of the next turn."""

    joining: tuple[Entry, ...]
    expired: tuple[Entry, ...]
    overloaded: tuple[Entry, ...] = ()


def admit(
    interactive: Iterable[Entry],
    bulk: Iterable[Entry],
    now: float,
    room: Room,
    bulk_turn: float = -math.inf,
    *,
    overtaken: bool = False,
    turn_seconds: float = 0.0,
) -> Admission:
    """Return the first entries that fit.

    Both queues are in order; bulk work joined last at `bulk_turn`; a turn takes `turn_seconds`.

    Interactive work goes first, except that bulk work has its turn now and then. The first entry that does not fit has
    a place reserved, at the earliest turn at which it is sure to fit. Entries behind it join where they fit beside that
    place, so the first begins no later than it was sure to. Bulk work overtakes nobody but in its turn. If it has
    already overtaken the first interactive entry (`overtaken`), it does so again only beside the reserved place.
    """
    head = next(iter(bulk), None)
    due = 1 if head and bulk_is_due(head, interactive, now, bulk_turn) else 0
    joining = _Joining(now, room, turn_seconds)
    first, last = iter(interactive), iter(bulk)
    joining.fill(islice(first, 1 if overtaken else 0))
    joining.fill(islice(last, due), in_turn=True)
    joining.fill(first)
    joining.fill(last)
    return Admission(tuple(joining.entries), tuple(joining.expired), tuple(joining.overloaded))


class _Joining:
    """Collect the entries that join, and track the room that is left."""

    def __init__(self, now: float, room: Room, turn_seconds: float) -> None:
        self.entries: list[Entry] = []
        self.expired: list[Entry] = []
        self.overloaded: list[Entry] = []
        self._now = now
        # An entry that is alone begins in any case, or turns that were measured wrong would never be measured anew.
        self._turned = now + turn_seconds if room.under_way else now
        self._tokens = room.tokens
        self._shares = _Shares(room)
        self._full = self._shares.full
        self._kept = self._bulk_waits = False
        self._too_much: dict[tuple[int, int], int] = {}  # (answers, new tokens) -> the smallest input that did not fit

    def fill(self, waiting: Iterable[Entry], *, in_turn: bool = False) -> None:
        """Take the entries of one kind that fit; bulk work joins behind one that waits only in its turn."""
        for entry in islice(waiting, _LOOK_AT):
            if self._full or (is_bulk(entry) and not in_turn and (self._kept or self._bulk_waits)):
                return
            if entry.work.deadline <= self._now:
                self.expired.append(entry)
            elif entry.work.deadline < self._turned and not entry.promised:
                self.overloaded.append(entry)
            elif self._fits(entry):
                self._join(entry)
            elif not self._kept:
                self._wait(entry)

    def _fits(self, entry: Entry) -> bool:
        """Return whether the entry can join.

        Entries larger than one that did not fit are not tried, as there may be thousands of them.
        """
        size, alike = entry.work.ids.size, (answers_of(entry.work), entry.work.options.max_new_tokens)
        if size >= self._too_much.get(alike, math.inf):
            return False
        if (not self.entries or size <= self._tokens) and self._shares.fits(entry):
            return True
        if not is_bulk(entry):
            self._too_much[alike] = size
        return False

    def _join(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._tokens -= int(entry.work.ids.size)
        self._shares.add(entry)
        self._full = self._shares.full

    def _wait(self, entry: Entry) -> None:
        """Reserve a place for the first entry that waits; bulk work may wait for its own kind alone."""
        if is_bulk(entry) and not self._shares.bulk.fits(need_of(entry.work)):
            self._bulk_waits = True
        else:
            self._kept = True
            self._shares.keep(entry)


class _Shares:
    """Track the room left to each kind of work: less to bulk work than to long work, and to that less than to short."""

    def __init__(self, room: Room) -> None:
        under_way = [(each.entry, need) for each, need in zip(room.under_way, room.needs, strict=True)]
        bulk = [need for entry, need in under_way if is_bulk(entry)]
        long = [need for entry, need in under_way if not is_short(entry)]
        needs, kept = [need for _, need in under_way], room.sequences // _PARTS
        self._all = Forecast(room.rows, room.sequences, needs)
        self._long = Forecast(room.rows, room.sequences - kept, long)  # of long and bulk work
        self.bulk = Forecast(room.rows - room.rows // _PARTS, room.sequences - 2 * kept, bulk)
        # The turns in which someone has left, and the one after next, in which other inputs are computed.
        self._ends = {1, *(need.turns for need in needs)}

    @property
    def full(self) -> bool:
        """Return whether nobody at all can join."""
        return self._all.full

    def fits(self, entry: Entry) -> bool:
        """Return whether the entry can join now."""
        need = need_of(entry.work)
        return all(share.fits(need) for share in self._of(entry))

    def add(self, entry: Entry) -> None:
        """Add an entry that joins now."""
        self._add(entry, need_of(entry.work), 0)

    def keep(self, entry: Entry) -> None:
        """Reserve room for an entry as early as it is sure to fit: at the latest when all have ended."""
        need, starts = need_of(entry.work), sorted(self._ends)
        fits = np.logical_and.reduce([share.fits_at(need, starts) for share in self._of(entry)])
        self._add(entry, need, starts[int(fits.argmax())])

    def _of(self, entry: Entry) -> tuple[Forecast, ...]:
        if is_short(entry):
            return (self._all,)
        return (self._all, self._long, self.bulk) if is_bulk(entry) else (self._all, self._long)

    def _add(self, entry: Entry, need: Need, start: int) -> None:
        for share in self._of(entry):
            share.add(need, start)
        self._ends.add(start + need.turns)


class GenerationQueue:
    """Queue work for the engine, which takes it; the connections add and cancel. Bounded in rows of the cache.

    It also knows what is under way, so that this can be cancelled too: the engine asks before each step.
    """

    def __init__(self, queue_tokens: int, cache_tokens: int, queue_seconds: float = math.inf) -> None:
        self.queue_tokens = queue_tokens
        self.cache_tokens = cache_tokens
        self.queue_seconds = queue_seconds
        self.arrived: Callable[[], None] = lambda: None  # wakes an idle engine
        self._waiting: Waiting[Generate] = Waiting()
        self._bulk_turn = -math.inf  # when bulk work last joined
        self._first: Entry | None = None  # the first interactive entry that waits
        self._overtaken = False  # whether bulk work has overtaken that entry
        self._under_way: set[Key] = set()
        self._cancelled: set[Key] = set()
        self._room = Room(cache_tokens, 1, 0)  # in the current turn
        self._began = -math.inf  # when the current turn began
        self._pace = TurnPace()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def waiting_by_priority(self) -> dict[int, int]:
        """Return the rows of the cache that those of each priority wait for."""
        return self._waiting.by_priority

    @property
    def wait_seconds(self) -> float:
        """Return how long a short one would have to wait now, from a caller with nothing else waiting."""
        with self._lock:
            return self._newcomer_wait()

    def add(self, work: Generate, source: object) -> Failure | None:
        """Add work, or return why it cannot wait. An idle worker takes anything that the cache has rows for."""
        rows = rows_of(work)
        if rows > self.cache_tokens:
            return Failure(work.id, "internal", f"the cache has {self.cache_tokens} rows, and this may need {rows}")
        with self._lock:
            if self._waiting.tokens and self._waiting.tokens + rows > self.queue_tokens:
                return Failure(work.id, "queue_full", f"{self._waiting.tokens} tokens wait already to be generated")
            now = time.monotonic()
            new = queued(work, source, now, rows, promised=work.alone or work.admitted)
            if (over := self._seconds_over(new, now)) > 0:
                return overloaded(work, over, self._newcomer_wait())
            self._waiting.add(new)
        self.arrived()
        return None

    def _seconds_over(self, new: Entry, now: float) -> float:
        """Return by how much, if above 0, it would begin too late to have one turn by its deadline or `queue_seconds`.

        Its other turns do not count, as it may end before it has had all of them.
        """
        if new.promised or not (self._room.under_way or len(self._waiting)):
            return 0.0
        begins = self._wait(need_of(new.work), self._waiting.of(new).tokens_before(new), bulk=is_bulk(new))
        over = begins + self._pace.seconds - (new.work.deadline - now)
        return over if is_bulk(new) else max(over, begins - self.queue_seconds)

    def _newcomer_wait(self) -> float:
        return self._wait(Need(1, 1, 1), self._waiting.interactive.before_newcomers)

    def _wait(self, need: Need, before: float, *, bulk: bool = False) -> float:
        """Return the seconds until it begins, behind `before` tokens of its priority; bulk work goes last."""
        if not self._pace.seconds:
            return 0.0
        interactive, others = self._waiting.interactive, self._waiting.bulk
        if bulk:
            ahead = _crowd(chain(interactive, others), interactive.tokens + before)
        else:
            ahead = _crowd(interactive, before)
        turns = turns_until(need, ahead, self._room.needs, self.cache_tokens, self._room.sequences)
        return turns * self._pace.share * self._pace.seconds

    def cancel(self, source: object, work_ids: Iterable[int]) -> None:
        """Drop those works that still wait, and have those under way leave at the next step."""
        with self._lock:
            for work_id in work_ids:
                if not self._waiting.cancel(source, work_id) and (source, work_id) in self._under_way:
                    self._cancelled.add((source, work_id))

    def forget(self, source: object) -> None:
        """Cancel all that a lost connection sent."""
        with self._lock:
            self._waiting.cancel_all(source)
            self._cancelled |= {key for key in self._under_way if key[0] is source}

    def take(self, room: Room) -> Admission:
        """Return the entries that join now, which are under way until `left`."""
        with self._lock:
            now = time.monotonic()
            self._turned(now)
            self._room = room
            if not len(self._waiting):
                return Admission((), ())
            interactive, bulk = self._waiting.interactive, self._waiting.bulk
            first = next(iter(interactive), None)
            self._first, self._overtaken = first, self._overtaken and first is self._first
            made = admit(
                interactive,
                bulk,
                now,
                room,
                self._bulk_turn,
                overtaken=self._overtaken,
                turn_seconds=self._pace.seconds,
            )
            self._waiting.remove((*made.expired, *made.overloaded))
            self._waiting.serve(made.joining)
            joined = [UnderWay(entry, 0) for entry in made.joining]
            self._room = replace(room, under_way=[*room.under_way, *joined])
            if any(map(is_bulk, made.joining)):
                self._bulk_turn, self._overtaken = now, True
            self._under_way |= {key_of(entry) for entry in made.joining}
            return made

    def rests(self) -> None:
        """Note that nothing is under way, and nothing waits: what comes next begins at once."""
        with self._lock:
            self._turned(time.monotonic())
            self._room = replace(self._room, under_way=())

    def _turned(self, now: float) -> None:
        """Note that the current turn is over, and the batch after it."""
        if self._room.under_way:
            self._pace.turned(now - self._began)
        self._began = now

    def cancelled(self) -> frozenset[Key]:
        """Return the keys of those under way that must leave."""
        with self._lock:
            return frozenset(self._cancelled)

    def left(self, entry: Entry, turns: int) -> None:
        """Note that an entry is no longer under way, after this many turns."""
        with self._lock:
            self._pace.ended(turns, entry.work.options.max_new_tokens)
            self._under_way.discard(key_of(entry))
            self._cancelled.discard(key_of(entry))


def _crowd(waiting: Iterable[Entry], tokens: float) -> Crowd:
    """Return a crowd of this many waiting tokens, as if all entries were like the first ones."""
    if not (first := [entry.work for entry in islice(waiting, _LIKE)]):
        return Crowd()
    rows, answers = sum(map(rows_of, first)), sum(map(answers_of, first))
    turns = sum(work.options.max_new_tokens * answers_of(work) for work in first)
    return Crowd(sequences=tokens * answers / rows, rows=rows / answers, turns=turns / answers)
