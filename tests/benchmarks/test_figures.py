"""Numbers out of measurements."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]  # it comes with sentence-transformers

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


@pytest.mark.parametrize("noise", [0.0, 0.2, 3.0])
def test_rank_correlation_is_that_of_spearman(noise: float) -> None:
    generator = np.random.default_rng(0)
    want = generator.normal(size=(12, 5))
    want[3] = want[7]  # equal similarities share a rank
    got = want + noise * generator.normal(size=want.shape)
    upper = np.triu_indices(12, k=1)

    def similarities(rows: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> object:
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return (unit @ unit.T)[upper]

    expected = stats.spearmanr(similarities(got), similarities(want)).statistic
    assert rank_correlation(got, want) == pytest.approx(expected, abs=1e-9)
