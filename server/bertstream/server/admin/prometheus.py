"""Metrics as Prometheus reads them: its text format, or OpenMetrics with exemplars where the reader takes that."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as MetricFamily
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bertstream.server.admin.gathering import Gatherings
from bertstream.workers.measuring.catalog import CATALOG
from bertstream.workers.measuring.declarations import Metric
from bertstream.workers.measuring.snapshots import Distribution, Snapshot, Value

_UNITS = {"s": "seconds", "By": "bytes", "1": "ratio"}  # those in braces are annotations, and no part of a name


def prometheus_name(metric: Metric) -> str:
    """Return what Prometheus calls a metric, by OpenTelemetry's rules, without the suffix of its samples."""
    unit = _unit(metric)
    name = metric.name.replace(".", "_")
    return f"{name}_{unit}" if unit and not name.endswith(f"_{unit}") else name


def metrics_routes(gatherings: Gatherings) -> list[Route]:
    """Return the route of all metrics."""

    async def metrics(request: Request) -> Response:
        gathered = await gatherings.fresh()
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(Families(gathered.snapshot)), headers={"content-type": content_type})

    return [Route("/metrics", metrics)]


class Families(Collector):
    """A snapshot as prometheus_client's families, in the order of the catalog."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._values: defaultdict[str, list[Value]] = defaultdict(list)
        self._distributions: defaultdict[str, list[Distribution]] = defaultdict(list)
        for value in snapshot.values:
            self._values[value.name].append(value)
        for distribution in snapshot.distributions:
            self._distributions[distribution.name].append(distribution)

    def collect(self) -> Iterator[MetricFamily]:
        for metric in CATALOG.values():
            if metric.kind == "histogram":
                yield _histograms(metric, self._distributions[metric.name])
            else:
                yield _numbers(metric, self._values[metric.name])


def _numbers(metric: Metric, values: Iterable[Value]) -> MetricFamily:
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(prometheus_name(metric), metric.meaning, labels=_labels(metric), unit=_unit(metric))
    for each in sorted(values, key=lambda each: each.labels):
        family.add_metric(each.labels, each.value)
    return family


def _histograms(metric: Metric, distributions: Iterable[Distribution]) -> MetricFamily:
    family = HistogramMetricFamily(prometheus_name(metric), metric.meaning, labels=_labels(metric), unit=_unit(metric))
    for each in sorted(distributions, key=lambda each: each.labels):
        family.add_metric(each.labels, list(_buckets(metric, each)), each.total)
    return family


def _buckets(metric: Metric, distribution: Distribution) -> Iterator[tuple[str, float] | tuple[str, float, Exemplar]]:
    """Yield the upper bound, the count up to it, and an exemplar of each bucket that has one."""
    exemplars = {each.bucket: Exemplar(dict(each.labels), each.value, each.time) for each in distribution.exemplars}
    bounds = (*(_bound(each) for each in metric.buckets), "+Inf")
    for place, (bound, count) in enumerate(zip(bounds, itertools.accumulate(distribution.counts), strict=True)):
        found = exemplars.get(place)
        yield (bound, count) if found is None else (bound, count, found)


def _bound(value: float) -> str:
    return repr(float(value))


def _labels(metric: Metric) -> Sequence[str]:
    return [label.replace(".", "_") for label in metric.labels]


def _unit(metric: Metric) -> str:
    """Return the unit's name; a part of a whole has one only as a gauge, as OpenTelemetry has it."""
    return "" if metric.unit == "1" and metric.kind != "gauge" else _UNITS.get(metric.unit, "")
