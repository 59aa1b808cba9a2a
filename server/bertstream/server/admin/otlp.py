"""Metrics pushed to a collector over OTLP/HTTP, by the exporter of OpenTelemetry's SDK.

It is imported only where metrics are pushed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as ExportedMetric
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from bertstream.server.admin.gathering import Gatherings
from bertstream.server.core.errors import RequestError
from bertstream.server.messages import Gathered
from bertstream.server.otlp import own_resource, silence_exporters, url_of
from bertstream.server.settings import OtlpSettings
from bertstream.workers.measuring.catalog import CATALOG
from bertstream.workers.measuring.declarations import Metric
from bertstream.workers.measuring.snapshots import Distribution, Value
from bertstream.workers.measuring.snapshots import Exemplar as SeenExemplar
from bertstream.workers.process.control import call_in

log = logging.getLogger(__name__)

_NANOSECONDS = 1e9
LAST_SECONDS = 2.0  # that the last push may take, when the process ends
_TRACE_ID = "trace_id"
T = TypeVar("T")
_NOT_KNOWN: Any = None  # leaves the field out of the message


class MetricPush:
    """Pushes all metrics again and again; a collector that does not take them is logged once, not with every push."""

    def __init__(self, gatherings: Gatherings, exporter: MetricExporter, seconds: float) -> None:
        self._gatherings = gatherings
        self._exporter = exporter
        self._seconds = seconds
        self._failing = False

    async def run(self) -> None:
        """Push until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(self._seconds)
                await self.push()
        finally:
            with contextlib.suppress(TimeoutError, RequestError):
                async with asyncio.timeout(LAST_SECONDS):
                    await self.push()

    async def push(self) -> None:
        """Push what all processes have counted until now."""
        try:
            gathered = await self._gatherings.fresh()
        except RequestError as error:
            log.warning("metrics are not pushed: %s", error.message)
            return
        resource = own_resource(gathered.version, gathered.address)
        taken = await _in_daemon(self._exporter.export, metrics_data(gathered, resource))
        self._tell(taken is MetricExportResult.SUCCESS)

    def _tell(self, taken: bool) -> None:
        if taken is not self._failing:
            return
        self._failing = not taken
        if taken:
            log.info("metrics are pushed again")
        else:
            log.warning("the collector does not take metrics; they are pushed again until it does")


def metric_push(settings: OtlpSettings, gatherings: Gatherings) -> MetricPush:
    """Return what pushes; what the settings leave open, OTEL_* variables say."""
    silence_exporters()
    exporter = OTLPMetricExporter(endpoint=url_of(settings.endpoint, "metrics"))
    return MetricPush(gatherings, exporter, settings.seconds)


async def _in_daemon(function: Callable[..., T], *arguments: Any) -> T:
    """Run a function in a thread that the process does not wait for when it ends, unlike those of asyncio."""
    loop = asyncio.get_running_loop()
    made: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if made.done():  # nobody waits any more
            return
        if error is None:
            made.set_result(cast(T, result))
        else:
            made.set_exception(error)

    def run() -> None:
        try:
            call_in(loop, settle, function(*arguments), None)
        except Exception as error:
            call_in(loop, settle, None, error)

    threading.Thread(target=run, name="push", daemon=True).start()
    return await made


def metrics_data(gathered: Gathered, resource: Resource) -> MetricsData:
    """Return all metrics as OpenTelemetry has them: counts since the server's start, and gauges."""
    times = int((gathered.time - gathered.uptime_seconds) * _NANOSECONDS), int(gathered.time * _NANOSECONDS)
    scope = InstrumentationScope("bertstream", gathered.version)
    values: defaultdict[str, list[Value]] = defaultdict(list)
    distributions: defaultdict[str, list[Distribution]] = defaultdict(list)
    for value in gathered.snapshot.values:
        values[value.name].append(value)
    for distribution in gathered.snapshot.distributions:
        distributions[distribution.name].append(distribution)
    metrics = [
        _histogram(metric, distributions[metric.name], times)
        if metric.kind == "histogram"
        else _numbers(metric, values[metric.name], times)
        for metric in CATALOG.values()
        if metric.name in values or metric.name in distributions
    ]
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, metrics, "")], "")])


def _numbers(metric: Metric, values: Iterable[Value], times: tuple[int, int]) -> ExportedMetric:
    points = [NumberDataPoint(_attributes(metric, each.labels), *times, float(each.value)) for each in values]
    data: Sum | Gauge = Gauge(points)
    if metric.kind == "counter":
        data = Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
    return ExportedMetric(metric.name, metric.meaning, metric.unit, data)


def _histogram(metric: Metric, distributions: Iterable[Distribution], times: tuple[int, int]) -> ExportedMetric:
    points = [
        HistogramDataPoint(
            _attributes(metric, each.labels),
            *times,
            count=each.count,
            sum=each.total,
            bucket_counts=each.counts,
            explicit_bounds=metric.buckets,
            min=_NOT_KNOWN,
            max=_NOT_KNOWN,
            exemplars=list(_exemplars(each.exemplars)),
        )
        for each in distributions
    ]
    data = Histogram(points, AggregationTemporality.CUMULATIVE)
    return ExportedMetric(metric.name, metric.meaning, metric.unit, data)


def _exemplars(seen: Iterable[SeenExemplar]) -> Iterator[Exemplar]:
    for each in seen:
        labels = dict(each.labels)
        trace_id = labels.pop(_TRACE_ID, "")
        number = int(trace_id, 16) if trace_id else None
        yield Exemplar(labels, each.value, int(each.time * _NANOSECONDS), None if number is None else 0, number)


def _attributes(metric: Metric, labels: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(metric.labels, labels, strict=True))
