"""The cores of one server, which its workers on the CPU share: who computes takes those that no other worker needs."""

from __future__ import annotations

import mmap
import resource
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

SLOTS = 1024  # one a worker

# What a second thread, and each one more, has to have had of its core. Where nothing else used the cores it had 0.84 of
# it (the median), and less than this in 2 of 100 computations; where something kept one core busy, in 83 of 100.
_LEAST_SHARE = 0.6
_FIRST_SECONDS, _MOST_SECONDS = 1.0, 60.0
_CALM = 8  # computations without disturbance, after which one before them is forgotten


@dataclass(frozen=True, slots=True)
class Spent:
    """What a process has had of its cores, or has since another time."""

    seconds: float  # by the clock
    processor: float  # seconds, of all threads together
    preempted: int  # how often a thread of it had to leave its core to something else

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.seconds - other.seconds, self.processor - other.processor, self.preempted - other.preempted)

    def was_shared(self, threads: int) -> bool:
        """Whether something else had cores of a computation with so many threads.

        Threads that wait for each other use all of the time that they get. With something else on one of their cores
        each of the dozens of waits in a batch takes as long as that keeps it, and the batch up to thirty times as long.
        A computation has parts for one thread, too, which nothing disturbs while it has its core.
        """
        disturbed = self.preempted > 0 or self.processor < self.seconds * 0.9
        return disturbed and self.processor < self.seconds * (1 + (threads - 1) * _LEAST_SHARE)


def spent() -> Spent:
    """By this process until now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Spent(time.monotonic(), time.process_time(), used.ru_nivcsw)


@dataclass(frozen=True, slots=True)
class Share:
    """What a worker is told of the cores."""

    path: str  # of the file that `make` makes
    slot: int  # the worker's own
    cores: int  # that all workers may use together
    most: int  # threads of one computation; no more than its own: it takes none of others


@dataclass(frozen=True, slots=True)
class Caution:
    """For how long idle cores are left alone, since something else uses them."""

    seconds: float = 0.0
    until: float = 0.0
    warned: bool = False  # by one disturbance, which may be chance
    calm: int = 0  # computations since then

    def after(self, shared: bool, now: float, *, by_workers: bool = False) -> Caution:
        """Return what it is after a computation: the second disturbance begins it, and each one more doubles it.

        Other workers, who have come back to their own cores, may soon be idle again: of them it stays short.
        """
        if not shared:
            return replace(self, calm=self.calm + 1) if self.warned and self.calm < _CALM - 1 else Caution()
        if not self.warned:
            return Caution(warned=True)
        seconds = _FIRST_SECONDS if by_workers else min(max(2 * self.seconds, _FIRST_SECONDS), _MOST_SECONDS)
        return Caution(seconds, now + seconds, warned=True)


def make(path: Path) -> None:
    """The file, saying that all are idle.

    It has a byte for each worker, the threads that it computes with, then one more, how often it has begun (mod 256).
    """
    path.write_bytes(bytes(2 * SLOTS))


def clear(path: Path, slots: Iterable[int]) -> None:
    """Says that these are idle: workers that are gone."""
    with path.open("rb+") as file:
        for slot in slots:
            file.seek(slot)
            file.write(b"\0")


class Cores:
    """One worker's view of the file. One thread takes and gives back.

    Nothing is locked. Each worker writes its own bytes alone, and its own need before it looks at others': of two that
    begin at once none sees the other idle. What a killed worker left there is cleared by the one that replaces it.
    """

    def __init__(
        self, share: Share, own: int, set_threads: Callable[[int], None], spent: Callable[[], Spent] = spent
    ) -> None:
        """own: threads that this worker computes with whatever the others do."""
        with Path(share.path).open("rb+") as file:
            self._map = mmap.mmap(file.fileno(), 2 * SLOTS)
        self._share = share
        self._own = own
        self._set_threads = set_threads
        self._spent = spent
        self._began = spent()
        self._beginnings = b""  # of all, when this one began last
        self._caution = Caution()
        self._threads = 0  # unknown
        self._say(0)

    def take(self, *, idle: bool) -> int:
        """Compute from now on: with its own threads and, if those of `idle` cores are wanted, one for each of these.

        The number of threads.
        """
        self._began = self._spent()
        self._say(self._own)
        wanted = idle and self._began.seconds >= self._caution.until
        free = self._share.cores - sum(self._map[:SLOTS]) if wanted else 0
        self._use(max(self._own, min(self._own + free, self._share.most)))
        own = SLOTS + self._share.slot
        self._map[own] = (self._map[own] + 1) % 256
        self._beginnings = self._map[SLOTS:]
        return self._threads

    def warm_up(self, compute: Callable[[], None]) -> None:
        """Compute with as many threads as it ever may, whoever else does, so that they are there."""
        if self._share.most > self._own:
            self._use(self._share.most)
            compute()
            self._say(0)

    def give_back(self) -> None:
        """Compute no longer."""
        self._say(0)
        if self._threads > self._own:
            now, by_workers = self._spent(), self._map[SLOTS:] != self._beginnings
            shared = (now - self._began).was_shared(self._threads)
            self._caution = self._caution.after(shared, now.seconds, by_workers=by_workers)

    def _use(self, threads: int) -> None:
        self._say(threads)
        if threads != self._threads:
            self._set_threads(threads)
            self._threads = threads

    def _say(self, threads: int) -> None:
        self._map[self._share.slot] = min(threads, 255)
