"""Figures made of measurements."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from benchmarks.figures import cosines, percentiles, rank_correlation, spread


def test_spread() -> None:
    found = spread([3.0, 1.0, 2.0])
    assert (found.median, found.least, found.most) == (2.0, 1.0, 3.0)
    assert found.half == 0.5


def test_percentiles_are_latencies_that_were_measured() -> None:
    found = percentiles([number / 1000 for number in range(1, 101)])
    assert (found.p50, found.p95, found.p99) == (0.05, 0.095, 0.099)
    assert percentiles([0.25]).p99 == 0.25


def test_cosines() -> None:
    got = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, -3.0]])
    want = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(cosines(got, want), [1.0, 0.5**0.5, -1.0])


def test_rank_correlation_is_of_how_similar_pairs_are() -> None:
    """The three pairs have the angles 0.1, 0.5 and 0.6 in one order, and in others."""
    rows = [np.array([[np.cos(angle), np.sin(angle)] for angle in angles]) for angles in ((0, 0.1, 0.6), (0, 0.5, 0.6))]
    assert rank_correlation(7 * rows[0], rows[0]) == pytest.approx(1.0)
    assert rank_correlation(rows[1], rows[0]) == pytest.approx(0.5)  # ranks 2, 1, 3 beside 1, 2, 3


def test_equally_similar_pairs_share_a_rank() -> None:
    want = np.eye(4)[[0, 1, 2, 2]]  # one pair is alike, five are as unlike
    got = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0.1, 1]])
    assert 0.6 < rank_correlation(got, want) < 1.0


def test_where_there_is_no_scipy_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    assert math.isnan(rank_correlation(np.eye(3), np.eye(3)))
