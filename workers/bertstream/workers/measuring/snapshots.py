"""Define what a process has counted at one moment, and add up what several have.

These are values alone: they pass between processes, and what is done with them needs neither clock nor process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msgspec import Struct

from bertstream.workers.measuring.declarations import Merge

Labels = tuple[str, ...]
Key = tuple[str, Labels]  # a metric's name, and the values of its labels in the order of its declaration


class TakeSnapshot(Struct, frozen=True, tag=True):
    """Ask a process for its snapshot."""


class Value(Struct, frozen=True, array_like=True):
    """Hold the value of a counter or gauge."""

    name: str
    labels: Labels
    value: float

    @property
    def key(self) -> Key:
        return self.name, self.labels


class Exemplar(Struct, frozen=True, array_like=True):
    """Hold one of the values in a histogram's bucket, and by what its call is found: a trace, a request."""

    bucket: int  # its place
    value: float
    time: float  # time.time()
    labels: tuple[tuple[str, str], ...]


class Distribution(Struct, frozen=True, array_like=True):
    """Hold what a histogram has counted."""

    name: str
    labels: Labels
    counts: tuple[int, ...]  # of each bucket alone; the last one has no bound
    total: float  # the sum of all values
    exemplars: tuple[Exemplar, ...] = ()

    @property
    def key(self) -> Key:
        return self.name, self.labels

    @property
    def count(self) -> int:
        """Return how many values there were."""
        return sum(self.counts)


class Snapshot(Struct, frozen=True):
    """Hold all that a process, or several together, have counted."""

    values: tuple[Value, ...] = ()
    distributions: tuple[Distribution, ...] = ()

    def value(self, name: str, *labels: str) -> float:
        """Return one value; 0 where it is not there."""
        return next((each.value for each in self.values if each.key == (name, labels)), 0.0)


class LastSnapshot(Struct, frozen=True, tag=True):
    """Say what a process has counted in all; this is the last thing that it says."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Gauges:
    """Name the metrics that are gauges, and say how those of several processes are merged."""

    merges: Mapping[str, Merge]

    def merge(self, name: str, one: float, other: float) -> float:
        """Return what two values of one metric are together; values of counters are added up."""
        return max(one, other) if self.merges.get(name) == "max" else one + other

    def without(self, snapshot: Snapshot) -> Snapshot:
        """Return what stays of a snapshot when its process has ended: what it has counted."""
        return Snapshot(tuple(each for each in snapshot.values if each.name not in self.merges), snapshot.distributions)


def merged(snapshots: Iterable[Snapshot], gauges: Gauges) -> Snapshot:
    """Return what several processes have counted together."""
    values: dict[Key, Value] = {}
    distributions: dict[Key, Distribution] = {}
    for snapshot in snapshots:
        for value in snapshot.values:
            known = values.get(value.key)
            values[value.key] = value if known is None else _both(known, value, gauges)
        for distribution in snapshot.distributions:
            there = distributions.get(distribution.key)
            distributions[distribution.key] = distribution if there is None else _added(there, distribution)
    return Snapshot(tuple(values.values()), tuple(distributions.values()))


def since(snapshot: Snapshot, before: Snapshot) -> Snapshot:
    """Return what was counted since another snapshot, of which this one is a later state; gauges make no sense."""
    values = {each.key: each.value for each in before.values}
    counts = {each.key: each for each in before.distributions}
    return Snapshot(
        tuple(Value(each.name, each.labels, each.value - values.get(each.key, 0.0)) for each in snapshot.values),
        tuple(_less(each, counts.get(each.key)) for each in snapshot.distributions),
    )


def _both(one: Value, other: Value, gauges: Gauges) -> Value:
    return Value(one.name, one.labels, gauges.merge(one.name, one.value, other.value))


def _added(one: Distribution, other: Distribution) -> Distribution:
    counts = tuple(map(sum, zip(one.counts, other.counts, strict=True)))
    newest = {each.bucket: each for each in sorted((*one.exemplars, *other.exemplars), key=lambda each: each.time)}
    exemplars = tuple(newest[bucket] for bucket in sorted(newest))
    return Distribution(one.name, one.labels, counts, one.total + other.total, exemplars)


def _less(one: Distribution, before: Distribution | None) -> Distribution:
    if before is None:
        return one
    counts = tuple(now - then for now, then in zip(one.counts, before.counts, strict=True))
    return Distribution(one.name, one.labels, counts, one.total - before.total)
