"""Sums and softmaxes in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.workers.ragged import starts_of

Doubles = NDArray[np.float64]


def softmax(logits: Doubles) -> Doubles:
    """Return the softmax over the last dimension."""
    powers: Doubles = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Doubles = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def segment_softmax(logits: Doubles, counts: NDArray[np.integer[Any]]) -> Doubles:
    """Return the softmax of each of m segments end to end, none empty: [sum(counts)], [m] -> [sum(counts)]."""
    powers: Doubles = np.exp(logits - np.repeat(np.maximum.reduceat(logits, starts_of(counts)), counts))
    shares: Doubles = powers / np.repeat(segment_sums(powers, counts), counts)
    return shares


def segment_sums(values: Doubles, counts: NDArray[np.integer[Any]]) -> Doubles:
    """Return the sum of each of m segments end to end, which may be empty: [sum(counts)], [m] -> [m]."""
    sums: Doubles = np.bincount(np.repeat(np.arange(counts.size), counts), values, counts.size).astype(np.float64)
    return sums
