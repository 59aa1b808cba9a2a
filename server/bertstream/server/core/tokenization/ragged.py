"""Lists of different lengths, end to end in one array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.signedinteger[Any]]


def first_indexes(lengths: IntArray) -> NDArray[np.int64]:
    """Return where each list starts: [n] -> [n]."""
    return np.cumsum(lengths, dtype=np.int64) - lengths


def owners(lengths: IntArray) -> NDArray[np.int64]:
    """Return the list that each element belongs to: [n] -> [sum(lengths)]."""
    return np.repeat(np.arange(len(lengths)), lengths)


def slice_indexes(starts: IntArray, lengths: IntArray) -> NDArray[np.int64]:
    """Return the indexes start, start + 1, … of each slice, end to end: [n], [n] -> [sum(lengths)]."""
    indexes = np.repeat(starts - first_indexes(lengths), lengths)
    return indexes + np.arange(len(indexes))
