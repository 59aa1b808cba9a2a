"""Share the cores of one server between its workers on the CPU: a computation also uses the cores of idle workers."""

from __future__ import annotations

import mmap
import resource
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from bertstream.workers.mapped import map_file

SLOTS = 1024  # one for each worker

# The share of its core that each thread beyond the first must have had. Where nothing else used the cores, the median
# was 0.84, and less than this in 2 of 100 computations; where something kept one core busy, in 83 of 100.
_LEAST_SHARE = 0.6
_FIRST_SECONDS, _MOST_SECONDS = 1.0, 60.0
_CALM = 8  # computations without disturbance, after which an earlier one is forgotten


@dataclass(frozen=True, slots=True)
class Spent:
    """Hold the time that a process has spent on its cores, in all or since another time."""

    seconds: float  # by the clock
    processor: float  # seconds, of all threads together
    preempted: int  # how often one of its threads had to leave its core to something else

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.seconds - other.seconds, self.processor - other.processor, self.preempted - other.preempted)

    def was_shared(self, threads: int) -> bool:
        """Return whether something else used the cores of a computation with this many threads.

        Threads that wait for each other use all of the time that they get. With something else on one of their cores,
        each of the dozens of waits in a batch takes as long as that keeps the core, and the batch up to thirty times as
        long. A computation also has parts for one thread, which nothing disturbs while it has its core.
        """
        disturbed = self.preempted > 0 or self.processor < self.seconds * 0.9
        return disturbed and self.processor < self.seconds * (1 + (threads - 1) * _LEAST_SHARE)


def spent() -> Spent:
    """Return what this process has spent until now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Spent(time.monotonic(), time.process_time(), used.ru_nivcsw)


@dataclass(frozen=True, slots=True)
class Share:
    """Tell a worker about the shared cores."""

    path: str  # of the file that `make` makes
    slot: int  # the worker's own
    cores: int  # that all workers together may use
    most: int  # threads of one computation; a worker that uses only its own cores has no more than these


@dataclass(frozen=True, slots=True)
class Caution:
    """Say for how long idle cores are left alone, since something else uses them."""

    seconds: float = 0.0
    until: float = 0.0
    warned: bool = False  # by one disturbance, which may be chance
    calm: int = 0  # computations since then

    def after(self, shared: bool, now: float, *, by_workers: bool = False) -> Caution:
        """Return the caution after a computation: the second disturbance begins it, and each further one doubles it.

        Other workers, who have come back to their own cores, may soon be idle again: because of them it stays short.
        """
        if not shared:
            return replace(self, calm=self.calm + 1) if self.warned and self.calm < _CALM - 1 else Caution()
        if not self.warned:
            return Caution(warned=True)
        seconds = _FIRST_SECONDS if by_workers else min(max(2 * self.seconds, _FIRST_SECONDS), _MOST_SECONDS)
        return Caution(seconds, now + seconds, warned=True)


def make(path: Path) -> None:
    """Make the file, which says that all workers are idle.

    It has a byte for each worker, the threads that it computes with, then another byte for each, how often it has begun
    (mod 256). Raises OSError.
    """
    map_file(path, 2 * SLOTS).close()


def clear(path: Path, slots: Iterable[int]) -> None:
    """Mark these workers, which are gone, as idle."""
    with path.open("rb+") as file:
        for slot in slots:
            file.seek(slot)
            file.write(b"\0")


class Cores:
    """View the file as one worker; one thread takes cores and gives them back.

    Nothing is locked. Each worker writes only its own bytes, and its own need before it looks at others': of two that
    begin at once, neither sees the other idle. What a killed worker has left there is cleared by its successor.
    """

    def __init__(
        self, share: Share, own: int, set_threads: Callable[[int], None], spent: Callable[[], Spent] = spent
    ) -> None:
        """View the file at `share.path`.

        own: threads that this worker computes with whatever the others do.
        """
        with Path(share.path).open("rb+") as file:
            self._map = mmap.mmap(file.fileno(), 2 * SLOTS)
        self._share = share
        self._own = own
        self._set_threads = set_threads
        self._spent = spent
        self._began = spent()
        self._beginnings = b""  # of all workers, when this one last began
        self._caution = Caution()
        self._threads = 0  # 0: not known
        self._say(0)

    def take(self, *, idle: bool) -> int:
        """Begin to compute with this worker's own threads, and with `idle` one more for each idle core.

        Returns the number of threads.
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
        """Compute with as many threads as it ever may, whatever others do, so that the threads are started.

        What is measured after that has this worker's own threads again.
        """
        if self._share.most > self._own:
            self._use(self._share.most)
            compute()
            self._use(self._own)
            self._say(0)

    def give_back(self) -> None:
        """Note that the computation has ended."""
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
