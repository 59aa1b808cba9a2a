"""Figures made of measurements: medians and spread, percentiles, and how far vectors are from the exact ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[Any]  # [n, d]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median and range of a figure that was measured several times."""

    median: float
    least: float
    most: float

    @property
    def half(self) -> float:
        """Half of the range, as a share of the median."""
        return (self.most - self.least) / 2 / self.median if self.median else 0.0


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of at least one value."""
    return Spread(float(np.median(values)), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles of latencies, in seconds."""

    p50: float
    p95: float
    p99: float


def percentiles(seconds: Sequence[float]) -> Percentiles:
    """Return the smallest latencies that 50, 95 and 99 percent of the calls did not exceed."""
    return Percentiles(*np.percentile(seconds, [50, 95, 99], method="inverted_cdf").tolist())


def cosines(got: Vectors, want: Vectors) -> NDArray[np.float64]:
    """Return the cosine of each row with the same row of the other array: [n, d], [n, d] -> [n]."""
    rows: NDArray[np.float64] = np.sum(_unit(got) * _unit(want), axis=1)
    return rows


def rank_correlation(got: Vectors, want: Vectors) -> float:
    """Return Spearman's rank correlation of the similarities of all pairs of rows.

    It tells whether both arrays would rank search results alike. It is nan without SciPy, which a machine that has
    only bertstream may lack.
    """
    try:
        from scipy.spatial.distance import pdist
        from scipy.stats import spearmanr
    except ModuleNotFoundError:
        return math.nan
    return float(spearmanr(*(pdist(_unit(rows), "cosine") for rows in (got, want))).statistic)


def _unit(rows: Vectors) -> NDArray[np.float64]:
    double = rows.astype(np.float64)
    unit: NDArray[np.float64] = double / np.maximum(np.linalg.norm(double, axis=1, keepdims=True), 1e-12)
    return unit
