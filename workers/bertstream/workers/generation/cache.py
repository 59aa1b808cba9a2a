"""Which rows of the cache are whose."""

from __future__ import annotations

import numpy as np

from bertstream.workers.ragged import Ints


class CacheRows:
    """Gives out row numbers, and counts who holds each: what several sequences have in common is stored once.

    Low numbers go first and what was freed last goes next, so that of a large cache only what is used is ever touched.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._holders = np.zeros(rows, np.int32)
        self._free = np.arange(rows, dtype=np.int64)[::-1].copy()  # a stack
        self.free = rows

    @property
    def used(self) -> int:
        """Rows that someone holds."""
        return self.rows - self.free

    def allocate(self, count: int) -> Ints:
        """So many rows that nobody holds. Raises MemoryError; whoever reserved enough does not see it."""
        if count > self.free:
            raise MemoryError(f"{count} rows of the cache are wanted and {self.free} are free")
        self.free -= count
        rows = self._free[self.free : self.free + count][::-1].copy()
        self._holders[rows] = 1
        return rows

    def share(self, rows: Ints) -> None:
        """One more holder of these, no row twice."""
        self._holders[rows] += 1

    def release(self, rows: Ints) -> None:
        """One holder less of these, no row twice."""
        self._holders[rows] -= 1
        freed = rows[self._holders[rows] == 0]
        self._free[self.free : self.free + freed.size] = freed[::-1]
        self.free += freed.size
