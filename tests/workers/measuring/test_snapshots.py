from __future__ import annotations

import json

import msgspec
import pytest

from bertstream.workers.measuring.snapshots import (
    Distribution,
    Exemplar,
    Gauges,
    Snapshot,
    Value,
    merged,
    since,
)

GAUGES = Gauges({"level": "sum", "wait": "max"})


def exemplar(bucket: int, time: float) -> Exemplar:
    return Exemplar(bucket, 0.5, time, (("request_id", str(time)),))


ONE = Snapshot(
    (Value("calls", ("a",), 3), Value("level", (), 1), Value("wait", (), 5)),
    (Distribution("seconds", ("a",), (1, 0, 2), 4.5, (exemplar(0, 1.0), exemplar(2, 7.0))),),
)
OTHER = Snapshot(
    (Value("calls", ("a",), 4), Value("calls", ("b",), 1), Value("level", (), 2), Value("wait", (), 2)),
    (
        Distribution("seconds", ("a",), (0, 1, 1), 1.5, (exemplar(1, 2.0), exemplar(2, 6.0))),
        Distribution("seconds", ("b",), (1, 0, 0), 0.1),
    ),
)


def test_counts_of_several_processes_are_added_up() -> None:
    both = merged([ONE, OTHER], GAUGES)
    assert {(each.name, *each.labels): each.value for each in both.values} == {
        ("calls", "a"): 7,
        ("calls", "b"): 1,
        ("level",): 3,
        ("wait",): 5,
    }
    a, b = both.distributions
    assert (a.counts, a.total, b.counts) == ((1, 1, 3), 6.0, (1, 0, 0))
    assert [(each.bucket, each.time) for each in a.exemplars] == [(0, 1.0), (1, 2.0), (2, 7.0)]


def test_it_does_not_matter_in_which_order() -> None:
    both, again = merged([ONE, OTHER], GAUGES), merged([OTHER, ONE], GAUGES)
    assert sorted(both.values, key=lambda each: each.key) == sorted(again.values, key=lambda each: each.key)
    assert {each.key: each for each in both.distributions} == {each.key: each for each in again.distributions}
    assert merged([], GAUGES) == Snapshot()
    assert merged([ONE], GAUGES) == ONE


def test_of_a_process_that_has_ended_what_it_counted_stays() -> None:
    left = GAUGES.without(ONE)
    assert left == Snapshot((Value("calls", ("a",), 3),), ONE.distributions)


def test_what_was_counted_since() -> None:
    both = merged([ONE, OTHER], GAUGES)
    new = since(both, ONE)
    assert new.value("calls", "a") == 4
    assert new.value("calls", "b") == 1
    assert [(each.labels, each.counts) for each in new.distributions] == [(("a",), (0, 1, 1)), (("b",), (1, 0, 0))]
    assert new.distributions[0].total == pytest.approx(1.5)


def test_a_snapshot_passes_a_control_line() -> None:
    sent = json.dumps(msgspec.to_builtins(ONE))
    assert msgspec.convert(json.loads(sent), Snapshot) == ONE
