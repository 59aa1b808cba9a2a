"""The overload benchmark: its calls, and the outcome of calls."""

from __future__ import annotations

import math

from benchmarks.overload import fairness
from benchmarks.overload.offering import Call, requests
from benchmarks.overload.outcomes import judged, percentile, settled_after
from benchmarks.workloads import Workload
from bertstream.v1.encoding_pb2 import EncodeTextsRequest


def test_goodput_counts_what_was_answered_in_time_once_the_load_has_lasted() -> None:
    calls = [
        Call(0.5, 0.5, 0.6, "OK"),  # found an idle server
        Call(2.0, 2.0, 3.0, "OK", 8),
        Call(3.0, 3.1, 5.5, "OK", 16),  # too late
        Call(4.0, 4.0, 4.01, "RESOURCE_EXHAUSTED"),
        Call(5.0, 5.0, 7.0, "DEADLINE_EXCEEDED"),
    ]
    outcome = judged(calls, 2.0, seconds=6.0, deadline=2.0, memory=7, processor={"worker": 1.5})
    assert (outcome.offered, outcome.goodput, outcome.good_tokens) == (1.0, 0.25, 2.0)
    assert (outcome.answered_p50, outcome.answered_p99) == (1.0, 2.5)
    assert math.isclose(outcome.refused_p50, 0.01, abs_tol=1e-9)
    assert outcome.statuses == {"OK": 2, "RESOURCE_EXHAUSTED": 1, "DEADLINE_EXCEEDED": 1}
    assert math.isclose(outcome.lag, 0.1, abs_tol=1e-9)


def test_a_percentile_of_none_is_no_number() -> None:
    assert math.isnan(percentile([], 50))


def test_a_server_is_normal_again_after_the_last_slow_or_failed_probe() -> None:
    probes = [Call(0.0, 0.0, 0.5, "OK"), Call(0.6, 0.6, 0.61, "UNAVAILABLE"), Call(0.7, 0.7, 0.71, "OK")]
    assert settled_after(probes, normal=0.02) == 0.6
    assert settled_after(probes[2:], normal=0.02) == 0.0


def test_requests_ask_each_model_in_turn() -> None:
    source = requests(Workload("some", ("one", "two", "three"), (5, 6, 7)), ("bench", "other"))
    made = [next(source) for _ in range(4)]
    assert [each.tokens for each in made] == [5, 6, 7, 5]
    asked = [EncodeTextsRequest.FromString(each.message) for each in made]
    assert [each.options.model for each in asked] == ["bench", "other", "bench", "bench"]
    assert [each.inputs.texts.texts[0] for each in asked] == ["one", "two", "three", "one"]


def test_a_caller_s_share_is_what_was_answered() -> None:
    calls = [Call(0, 0, 1.0, "OK", 10), Call(0, 0, 0.5, "OK", 20), Call(0, 0, 9.0, "RESOURCE_EXHAUSTED", 40)]
    too_late = Call(1.5, 1.5, 2.5, "OK", 80)
    share = fairness.shared("light", [*calls, too_late], seconds=2.0)
    assert share == fairness.Share("light", 15.0, 0.5, 1.0, {"OK": 3, "RESOURCE_EXHAUSTED": 1})
    drawn = fairness.figures(fairness.Shares(share, share, share, share))
    assert "| light, beside heavy | 15 | 500 | 1000 | OK 3, RESOURCE_EXHAUSTED 1 |" in drawn
