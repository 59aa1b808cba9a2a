from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bertstream.ray.serve.autoscaling import TOKENS_WAITING, TokensWaiting


def context(replicas: int, **waiting: float) -> Any:
    metrics = {TOKENS_WAITING: waiting} if waiting else {}
    return SimpleNamespace(aggregated_metrics=metrics, target_num_replicas=replicas)


@pytest.mark.parametrize(
    ("waiting", "wanted"),
    [({"a": 0}, 1), ({"a": 100}, 1), ({"a": 101}, 2), ({"a": 250, "b": 50}, 3), ({"a": 0, "b": 0, "c": 0}, 1)],
)
def test_replicas_are_as_many_as_the_tokens_need(waiting: dict[str, float], wanted: int) -> None:
    assert TokensWaiting(100)(context(2, **waiting)) == (wanted, {})


def test_without_a_report_all_stays_as_it_is() -> None:
    assert TokensWaiting(100)(context(3)) == (3, {})
    assert TokensWaiting()(SimpleNamespace(aggregated_metrics=None, target_num_replicas=2)) == (2, {})


@pytest.mark.parametrize("tokens", [0, -1, float("nan")])
def test_a_target_that_makes_no_sense(tokens: float) -> None:
    with pytest.raises(ValueError, match="tokens_per_replica must be above 0"):
        TokensWaiting(tokens)
