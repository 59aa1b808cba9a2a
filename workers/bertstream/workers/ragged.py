"""Index ragged columns: texts of different lengths, end to end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def starts_of(lengths: NDArray[np.integer]) -> Ints:
    """Return where each text starts. lengths: [n] -> [n]."""
    starts = np.zeros(lengths.size, np.int64)
    np.cumsum(lengths[:-1], out=starts[1:])
    return starts


def pieces_of(sizes: NDArray[np.integer], limit: int) -> list[tuple[int, int]]:
    """Return [first, last) of consecutive pieces whose sizes add up to at most `limit`, or of a single text.

    sizes: [n].
    """
    starts = starts_of(sizes)
    ends = starts + sizes
    pieces: list[tuple[int, int]] = []
    first = 0
    while first < sizes.size:
        last = max(int(np.searchsorted(ends, starts[first] + limit, side="right")), first + 1)
        pieces.append((first, last))
        first = last
    return pieces


def rows_of(starts: NDArray[np.integer], lengths: NDArray[np.integer]) -> Ints:
    """Return the rows of several texts, end to end.

    starts, lengths: [n] -> [sum(lengths)].
    """
    shift = starts.astype(np.int64) - starts_of(lengths)
    return np.repeat(shift, lengths) + np.arange(int(lengths.sum()), dtype=np.int64)


def kept_places(kept: NDArray[np.bool_], lengths: NDArray[np.integer]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return how many tokens of each text are kept, [n], and the place of each of them in its text, [S].

    kept: [T]; lengths: [n].
    """
    owners = np.repeat(np.arange(lengths.size), lengths)[kept]
    places = (np.arange(kept.size) - np.repeat(starts_of(lengths), lengths))[kept]
    return np.bincount(owners, minlength=lengths.size).astype(np.int32), places.astype(np.int32)
