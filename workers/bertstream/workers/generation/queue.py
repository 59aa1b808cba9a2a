"""What waits to be generated: bounded, cancelled, expired, and let in where there is room."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from bertstream.workers.contract import Failure, Generate
from bertstream.workers.scheduler import Queued, SortedQueue, queued

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
class Room:
    """What the next step has room for, beside what is under way."""

    rows: int  # of the cache, reserved by nobody
    sequences: int
    tokens: int  # of inputs, all computed at once; the first to join may have more
    empty: bool  # nothing is under way: then the first to join may have more sequences, too


@dataclass(frozen=True, slots=True)
class Admission:
    """Who joins, and what must be answered as expired."""

    joining: tuple[Entry, ...]
    expired: tuple[Entry, ...]


def admit(waiting: Iterable[Entry], now: float, room: Room) -> Admission:
    """The most urgent that fit. `waiting` is sorted; nobody overtakes, else one that needs much might wait for ever."""
    joining: list[Entry] = []
    expired: list[Entry] = []
    rows, sequences, tokens = room.rows, room.sequences, room.tokens
    for entry in waiting:
        if entry.work.deadline <= now:
            expired.append(entry)
            continue
        rows -= entry.tokens
        sequences -= answers_of(entry.work)
        tokens -= int(entry.work.ids.size)
        first = not joining
        if rows < 0 or not ((first and room.empty) or (sequences >= 0 and (first or tokens >= 0))):
            break
        joining.append(entry)
    return Admission(tuple(joining), tuple(expired))


class GenerationQueue:
    """Shared by the connections, which add and cancel, and the engine, which takes. Bounded in rows of the cache.

    It also knows what is under way, so that this can be cancelled too: the engine asks before each step.
    """

    def __init__(self, queue_tokens: int, cache_tokens: int) -> None:
        self.queue_tokens = queue_tokens
        self.cache_tokens = cache_tokens
        self.arrived: Callable[[], None] = lambda: None  # wakes an idle engine
        self._waiting: SortedQueue[Generate] = SortedQueue()
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
            made = admit(self._waiting, time.monotonic(), room)
            self._waiting.remove((*made.joining, *made.expired))
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
