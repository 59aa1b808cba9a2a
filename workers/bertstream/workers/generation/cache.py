"""Track which sequences hold which rows of the cache."""

from __future__ import annotations

import numpy as np

from bertstream.workers.ragged import Ints


class CacheRows:
    """Hand out row numbers, and count the holders of each row, so that what sequences share is stored once.

    Low numbers go first, and the row freed last goes next, so that only the used part of a large cache is ever touched.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._holders = np.zeros(rows, np.int32)
        self._free = np.arange(rows, dtype=np.int64)[::-1].copy()  # a stack
        self.free = rows

    @property
    def used(self) -> int:
        """Return the number of rows that have a holder."""
        return self.rows - self.free

    def allocate(self, count: int) -> Ints:
        """Return this many rows that have no holder.

        Raises MemoryError, which does not happen to a caller that has reserved enough.
        """
        if count > self.free:
            raise MemoryError(f"{count} rows of the cache are wanted and {self.free} are free")
        self.free -= count
        rows = self._free[self.free : self.free + count][::-1].copy()
        self._holders[rows] = 1
        return rows

    def share(self, rows: Ints) -> None:
        """Add one holder to each of these rows, no row twice."""
        self._holders[rows] += 1

    def release(self, rows: Ints) -> None:
        """Remove one holder from each of these rows, no row twice."""
        self._holders[rows] -= 1
        freed = rows[self._holders[rows] == 0]
        self._free[self.free : self.free + freed.size] = freed[::-1]
        self.free += freed.size
