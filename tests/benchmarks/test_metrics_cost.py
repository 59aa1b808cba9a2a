from __future__ import annotations

import pytest

from benchmarks.metrics_cost import interval


@pytest.mark.parametrize(("count", "low", "high"), [(5, 0, 4), (6, 0, 5), (20, 5, 14), (100, 39, 60)])
def test_the_interval_of_the_median_is_that_of_the_sign_test(count: int, low: int, high: int) -> None:
    """Compare with the published order statistics: 6th to 15th of 20, 40th to 61st of 100."""
    assert interval([float(value) for value in reversed(range(count))]) == (low, high)
