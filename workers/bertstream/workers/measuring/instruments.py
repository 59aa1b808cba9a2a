"""Count and time, in about 100 ns each.

An instrument has one writer at a time: the event loop, the engine's thread, or whoever holds the queue's lock. A
snapshot may be taken by any thread meanwhile.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from bertstream.workers.measuring.declarations import OTHER, Kind, Metric
from bertstream.workers.measuring.snapshots import Distribution, Exemplar, Snapshot, Value

MOST_SERIES = 4096  # of one metric; what has other labels is counted under "other"
Readings = Callable[[], Iterable[Value]]
C = TypeVar("C")


class Counter:
    """Count, up from 0."""

    __slots__ = ("value",)

    def __init__(self, metric: Metric) -> None:
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        self.value += amount


class Histogram:
    """Count values by size."""

    __slots__ = ("_bounds", "counts", "exemplars", "total")

    def __init__(self, metric: Metric) -> None:
        self._bounds = metric.buckets
        self.counts = [0] * (len(self._bounds) + 1)
        self.total = 0.0
        self.exemplars: dict[int, tuple[float, float, tuple[tuple[str, str], ...]]] = {}

    def record(self, value: float, exemplar: tuple[tuple[str, str], ...] = ()) -> None:
        """Count a value; the exemplar, pairs of a name and a value, stands for its bucket until the next one."""
        place = bisect_left(self._bounds, value)
        self.counts[place] += 1
        self.total += value
        if exemplar:
            self.exemplars[place] = (value, time.time(), exemplar)

    def add(self, value: float, times: int) -> None:
        """Count a value as often as that."""
        self.counts[bisect_left(self._bounds, value)] += times
        self.total += value * times


class Labelled(Generic[C]):
    """Hold the instruments of one metric, one for each combination of its labels."""

    def __init__(self, metric: Metric, make: Callable[[Metric], C]) -> None:
        self.metric = metric
        self._make = make
        self._by_labels: dict[tuple[str, ...], C] = {}

    def of(self, *labels: str) -> C:
        """Return the instrument for these values of the labels, in the order of the declaration."""
        found = self._by_labels.get(labels)
        return self._new(labels) if found is None else found

    def _new(self, labels: tuple[str, ...]) -> C:
        if len(labels) != len(self.metric.labels):
            raise ValueError(f"{self.metric.name} has the labels {self.metric.labels}, not {len(labels)} of them")
        if len(self._by_labels) >= MOST_SERIES:
            labels = (OTHER,) * len(labels)
        return self._by_labels.setdefault(labels, self._make(self.metric))

    def items(self) -> Sequence[tuple[tuple[str, ...], C]]:
        """Return the instruments that there are, by their labels."""
        return list(self._by_labels.items())


class Registry:
    """Hold all instruments of one process."""

    def __init__(self) -> None:
        self._counters: dict[str, Labelled[Counter]] = {}
        self._histograms: dict[str, Labelled[Histogram]] = {}
        self._readings: list[Readings] = []

    def counter(self, metric: Metric) -> Labelled[Counter]:
        """Return the counters of this metric."""
        _check_kind(metric, "counter")
        return self._counters.setdefault(metric.name, Labelled(metric, Counter))

    def histogram(self, metric: Metric) -> Labelled[Histogram]:
        """Return the histograms of this metric."""
        _check_kind(metric, "histogram")
        return self._histograms.setdefault(metric.name, Labelled(metric, Histogram))

    def read(self, readings: Readings) -> None:
        """Have a function called for each snapshot, which yields the values of gauges."""
        self._readings.append(readings)

    def snapshot(self) -> Snapshot:
        """Return all that was counted so far, and all gauges as they are now."""
        values = [
            Value(name, labels, counter.value)
            for name, family in list(self._counters.items())
            for labels, counter in family.items()
        ]
        gauges = [value for readings in self._readings for value in readings()]
        distributions = [
            _distribution(name, labels, histogram)
            for name, family in list(self._histograms.items())
            for labels, histogram in family.items()
        ]
        return Snapshot((*values, *gauges), tuple(distributions))


def reading(metric: Metric, value: float, *labels: str) -> Value:
    """Return the value of a metric as it is now, where it is read rather than counted by us."""
    return Value(metric.name, labels, value)


def _check_kind(metric: Metric, kind: Kind) -> None:
    if metric.kind != kind:
        raise ValueError(f"{metric.name} is a {metric.kind}, not a {kind}")


def _distribution(name: str, labels: tuple[str, ...], histogram: Histogram) -> Distribution:
    exemplars = tuple(Exemplar(place, *rest) for place, rest in sorted(histogram.exemplars.copy().items()))
    return Distribution(name, labels, tuple(histogram.counts), histogram.total, exemplars)
