"""Index arithmetic on ragged columns: texts of different lengths, end to end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def starts_of(lengths: NDArray[np.integer]) -> Ints:
    """Where each text starts. lengths [n] -> [n]."""
    starts = np.zeros(lengths.size, np.int64)
    np.cumsum(lengths[:-1], out=starts[1:])
    return starts


def rows_of(starts: NDArray[np.integer], lengths: NDArray[np.integer]) -> Ints:
    """The rows of several texts, end to end: starts [n], lengths [n] -> [sum(lengths)]."""
    shift = starts.astype(np.int64) - starts_of(lengths)
    return np.repeat(shift, lengths) + np.arange(int(lengths.sum()), dtype=np.int64)
