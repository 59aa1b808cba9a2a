"""What waits to be generated: bounded, cancelled, expired, and let in where there is room."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bertstream.workers.contract import Failure, Generate
from bertstream.workers.scheduler import Queued, Waiting, bulk_is_due, is_bulk, queued

Entry: TypeAlias = Queued[Generate]
Key: TypeAlias = tuple[Any, int]  # the connection and the work's id


def key_of(entry: Entry) -> Key:
    """By which it is cancelled."""
    return entry.source, entry.work.id


def answers_of(work: Generate) -> int:
    """How many sequences of it are computed side by side."""
    return work.options.num_beams if work.options.num_beams > 1 else work.options.num_return_sequences


def rows_of(work: Generate) -> int:
    """The most rows of the cache that it may come to hold."""
    return int(work.ids.size) + work.options.max_new_tokens * answers_of(work)


@dataclass(frozen=True, slots=True)
class Share:
    """What bulk work may have of the room: less than all, so that interactive work that comes finds some."""

    rows: int
    sequences: int
    empty: bool  # no bulk work is under way: then the first to join may have more


@dataclass(frozen=True, slots=True)
class Room:
    """What the next step has room for, beside what is under way."""

    rows: int  # of the cache, reserved by nobody
    sequences: int
    tokens: int  # of inputs, all computed at once; the first to join may have more
    empty: bool  # nothing is under way: then the first to join may have more sequences, too
    bulk: Share | None = None  # None: all of it


@dataclass(frozen=True, slots=True)
class Admission:
    """Who joins, and what must be answered as expired."""

    joining: tuple[Entry, ...]
    expired: tuple[Entry, ...]


def admit(
    interactive: Sequence[Entry], bulk: Sequence[Entry], now: float, room: Room, bulk_turn: float = -math.inf
) -> Admission:
    """The most urgent that fit. Both are sorted; bulk work joined last at `bulk_turn`.

    Interactive work goes first, but for one of bulk work whose turn it is. Nobody overtakes, else one that needs much
    might wait for ever; only bulk work whose share is taken holds up none but its own kind.
    """
    due = 1 if bulk and bulk_is_due(bulk[0], interactive, now, bulk_turn) else 0
    joining = _Joining(now, room)
    for waiting in (bulk[:due], interactive, bulk[due:]):
        joining.fill(waiting)
    return Admission(tuple(joining.entries), tuple(joining.expired))


class _Joining:
    """Those who join, and the room that is left."""

    def __init__(self, now: float, room: Room) -> None:
        self.entries: list[Entry] = []
        self.expired: list[Entry] = []
        self._now = now
        self._rows, self._sequences, self._tokens, self._empty = room.rows, room.sequences, room.tokens, room.empty
        self._share = room.bulk or Share(room.rows, room.sequences, room.empty)
        self._full = self._bulk_waits = False

    def fill(self, waiting: Sequence[Entry]) -> None:
        """Takes those that fit, all of one kind, up to the first that does not."""
        for entry in waiting:
            bulk = is_bulk(entry)
            if self._full or (bulk and self._bulk_waits):
                return
            if entry.work.deadline <= self._now:
                self.expired.append(entry)
            elif bulk and not self._share_fits(entry):
                self._bulk_waits = True
            elif self._fits(entry):
                self._join(entry)
            else:
                self._full = True

    def _share_fits(self, entry: Entry) -> bool:
        share = self._share
        return share.empty or (entry.tokens <= share.rows and answers_of(entry.work) <= share.sequences)

    def _fits(self, entry: Entry) -> bool:
        first = not self.entries
        narrow = answers_of(entry.work) <= self._sequences and (first or entry.work.ids.size <= self._tokens)
        return entry.tokens <= self._rows and (narrow or (first and self._empty))

    def _join(self, entry: Entry) -> None:
        answers, share = answers_of(entry.work), self._share
        self.entries.append(entry)
        self._rows -= entry.tokens
        self._sequences -= answers
        self._tokens -= int(entry.work.ids.size)
        if is_bulk(entry):
            self._share = Share(share.rows - entry.tokens, share.sequences - answers, empty=False)


class GenerationQueue:
    """Shared by the connections, which add and cancel, and the engine, which takes. Bounded in rows of the cache.

    It also knows what is under way, so that this can be cancelled too: the engine asks before each step.
    """

    def __init__(self, queue_tokens: int, cache_tokens: int) -> None:
        self.queue_tokens = queue_tokens
        self.cache_tokens = cache_tokens
        self.arrived: Callable[[], None] = lambda: None  # wakes an idle engine
        self._waiting: Waiting[Generate] = Waiting()
        self._bulk_turn = -math.inf  # when bulk work joined last
        self._under_way: set[Key] = set()
        self._cancelled: set[Key] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, work: Generate, source: object) -> Failure | None:
        """Why it cannot wait, if it cannot. An empty queue takes anything that the cache has rows for."""
        rows = rows_of(work)
        if rows > self.cache_tokens:
            return Failure(work.id, "internal", f"the cache has {self.cache_tokens} rows, and this may need {rows}")
        with self._lock:
            if self._waiting.tokens and self._waiting.tokens + rows > self.queue_tokens:
                return Failure(work.id, "queue_full", f"{self._waiting.tokens} tokens wait already to be generated")
            self._waiting.add(queued(work, source, time.monotonic(), rows))
        self.arrived()
        return None

    def cancel(self, source: object, work_ids: Iterable[int]) -> None:
        """Drops what is still waiting of these, and has what is under way leave at the next step."""
        with self._lock:
            for work_id in work_ids:
                if not self._waiting.cancel(source, work_id) and (source, work_id) in self._under_way:
                    self._cancelled.add((source, work_id))

    def forget(self, source: object) -> None:
        """Cancels all that a lost connection sent."""
        with self._lock:
            self._waiting.cancel_all(source)
            self._cancelled |= {key for key in self._under_way if key[0] is source}

    def take(self, room: Room) -> Admission:
        """Who joins now; they are under way until `left`."""
        with self._lock:
            if not len(self._waiting):
                return Admission((), ())
            now = time.monotonic()
            made = admit(self._waiting.interactive.entries, self._waiting.bulk.entries, now, room, self._bulk_turn)
            self._waiting.remove((*made.joining, *made.expired))
            if any(map(is_bulk, made.joining)):
                self._bulk_turn = now
            self._under_way |= {key_of(entry) for entry in made.joining}
            return made

    def cancelled(self) -> frozenset[Key]:
        """What of that which is under way must leave."""
        with self._lock:
            return frozenset(self._cancelled)

    def left(self, entry: Entry) -> None:
        """It is under way no more."""
        with self._lock:
            self._under_way.discard(key_of(entry))
            self._cancelled.discard(key_of(entry))
