from __future__ import annotations

import threading

import pytest

from bertstream.workers.measuring.declarations import Metric
from bertstream.workers.measuring.instruments import MOST_SERIES, Registry, reading
from bertstream.workers.measuring.snapshots import Value

CALLS = Metric("calls", "counter", "{call}", "Counts calls.", ("method",))
SECONDS = Metric("seconds", "histogram", "s", "Measures calls.", ("method",), (0.1, 1.0))
LEVEL = Metric("level", "gauge", "1", "Is a level.")


def test_counts_are_kept_by_their_labels() -> None:
    registry = Registry()
    calls = registry.counter(CALLS)
    calls.of("a").add()
    calls.of("a").add(2)
    calls.of("b").add(0.5)
    registry.counter(CALLS).of("a").add()  # the same metric again has the same counts
    assert registry.snapshot().values == (Value("calls", ("a",), 4), Value("calls", ("b",), 0.5))


def test_a_bucket_has_the_values_up_to_and_with_its_bound() -> None:
    registry = Registry()
    seconds = registry.histogram(SECONDS).of("a")
    for value in (0.0, 0.1, 0.11, 1.0, 1.01, 60.0):
        seconds.record(value)
    seconds.add(0.5, 3)
    (found,) = registry.snapshot().distributions
    assert (found.name, found.labels, found.counts, found.count) == ("seconds", ("a",), (2, 5, 2), 9)
    assert found.total == pytest.approx(63.72)


def test_a_bucket_keeps_its_last_exemplar() -> None:
    registry = Registry()
    seconds = registry.histogram(SECONDS).of("a")
    seconds.record(0.05, (("request_id", "1"),))
    seconds.record(0.06, (("request_id", "2"),))
    seconds.record(0.07)
    seconds.record(5.0, (("request_id", "3"),))
    exemplars = registry.snapshot().distributions[0].exemplars
    assert [(each.bucket, each.value, each.labels) for each in exemplars] == [
        (0, 0.06, (("request_id", "2"),)),
        (2, 5.0, (("request_id", "3"),)),
    ]


def test_gauges_are_read_for_each_snapshot() -> None:
    registry, levels = Registry(), iter((1.0, 2.0))
    registry.read(lambda: [reading(LEVEL, next(levels))])
    assert [registry.snapshot().value("level") for _ in range(2)] == [1.0, 2.0]


def test_labels_are_bounded() -> None:
    registry = Registry()
    calls = registry.counter(CALLS)
    for number in range(MOST_SERIES + 10):
        calls.of(str(number)).add()
    snapshot = registry.snapshot()
    assert len(snapshot.values) == MOST_SERIES + 1
    assert snapshot.value("calls", "other") == 10


def test_wrong_use_is_refused() -> None:
    registry = Registry()
    with pytest.raises(ValueError, match="seconds is a histogram, not a counter"):
        registry.counter(SECONDS)
    with pytest.raises(ValueError, match="calls is a counter, not a histogram"):
        registry.histogram(CALLS)
    with pytest.raises(ValueError, match="calls has the labels"):
        registry.counter(CALLS).of("a", "b")


def test_a_snapshot_is_taken_while_others_count() -> None:
    registry, stop = Registry(), threading.Event()

    def count() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            registry.counter(CALLS).of(str(number % 1000)).add()
            registry.histogram(SECONDS).of(str(number % 1000)).record(0.5, (("request_id", "1"),))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        counts = [0.0]
        while len(counts) < 200 or counts[-1] == counts[0]:  # that thread may begin when all 200 have been taken
            counts.append(sum(each.value for each in registry.snapshot().values))
    finally:
        stop.set()
        thread.join()
    assert counts == sorted(counts)
