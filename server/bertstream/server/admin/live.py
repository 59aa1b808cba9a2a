"""The numbers of the last second, for pages and terminals."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bertstream.server.admin.gathering import Gatherings, Pair
from bertstream.server.messages import Gathered, GatheredModel, GatheredProcess
from bertstream.workers.measuring import frontend_metrics, worker_metrics
from bertstream.workers.measuring.declarations import Metric
from bertstream.workers.measuring.snapshots import Distribution, Snapshot, since

_OWN_PACKAGE = "bertstream.v1."
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def live_routes(gatherings: Gatherings) -> list[Route]:
    """Return the route of live numbers: server-sent events, or with `?once` one object."""

    async def events() -> AsyncIterator[str]:
        async with aclosing(gatherings.pairs()) as pairs:
            async for pair in pairs:
                yield f"data: {json.dumps(live(pair))}\n\n"

    async def numbers(request: Request) -> Response:
        if "once" in request.query_params:
            return JSONResponse(live(await gatherings.latest()))
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(events(), media_type="text/event-stream", headers=headers)

    return [Route("/api/live", numbers)]


def live(pair: Pair) -> dict[str, Any]:
    """Return the live numbers, of what was gathered at two moments."""
    now = pair.now
    rates = Rates(pair)
    return {
        "time": now.time,
        "seconds": rates.seconds,
        "server": {
            "version": now.version,
            "uptime_seconds": now.uptime_seconds,
            "cores": now.cores,
            "address": now.address,
            "ready": now.ready,
            "draining": now.draining,
        },
        "calls": _calls(rates),
        "texts_per_second": rates.per_second(worker_metrics.BATCH_TEXTS),
        "tokens_per_second": _tokens_per_second(rates),
        "refused_per_second": rates.by_label(frontend_metrics.REFUSALS, "reason"),
        "streams": round(rates.gauge(frontend_metrics.STREAMS)),
        "processes": [_process(each, pair.before, rates) for each in now.processes],
        "models": [_model(each, rates) for each in now.models],
    }


class Rates:
    """What was counted between two moments."""

    def __init__(self, pair: Pair) -> None:
        self.seconds = max(pair.now.time - pair.before.time, 0.0) or 1.0
        self.now = pair.now.snapshot
        self._counted: Snapshot = since(pair.now.snapshot, pair.before.snapshot)

    def per_second(self, metric: Metric, **labels: str) -> float:
        """Return how fast a counter went up, or a histogram's count, over all series with these labels."""
        values = sum(each.value for each in self._counted.values if _matches(metric, each.name, each.labels, labels))
        counts = sum(each.count for each in self.distributions(metric, **labels))
        return (values + counts) / self.seconds

    def total_per_second(self, metric: Metric, **labels: str) -> float:
        """Return the sum of what a histogram counted, a second, over all series with these labels."""
        return sum(each.total for each in self.distributions(metric, **labels)) / self.seconds

    def mean(self, metric: Metric, **labels: str) -> float | None:
        """Return the mean of what a histogram counted; None where that was nothing."""
        found = self.distributions(metric, **labels)
        count = sum(each.count for each in found)
        return sum(each.total for each in found) / count if count else None

    def by_label(self, metric: Metric, label: str) -> dict[str, float]:
        """Return how fast a counter went up, or a histogram's count, by the values of one label."""
        place = metric.labels.index(label)
        found: dict[str, float] = {}
        for labels, value in self._counts(metric):
            found[labels[place]] = found.get(labels[place], 0.0) + value / self.seconds
        return found

    def distributions(self, metric: Metric, **labels: str) -> list[Distribution]:
        """Return what the histograms of a metric have counted, all series with these labels."""
        found = self._counted.distributions
        return [each for each in found if _matches(metric, each.name, each.labels, labels)]

    def quantiles(self, metric: Metric, **labels: str) -> dict[str, float | None]:
        """Return the quantiles of a histogram, over all series with these labels."""
        columns = zip(*(each.counts for each in self.distributions(metric, **labels)), strict=True)
        counts = [sum(column) for column in columns]
        return {name: quantile(part, metric.buckets, counts) for name, part in QUANTILES.items()}

    def gauge(self, metric: Metric, **labels: str) -> float:
        """Return the value of a gauge now, added up over all series with these labels."""
        return sum(each.value for each in self.now.values if _matches(metric, each.name, each.labels, labels))

    def _counts(self, metric: Metric) -> Iterable[tuple[tuple[str, ...], float]]:
        yield from ((each.labels, each.value) for each in self._counted.values if each.name == metric.name)
        yield from ((each.labels, each.count) for each in self.distributions(metric))


def quantile(part: float, bounds: tuple[float, ...], counts: list[int]) -> float | None:
    """Return the value below which this part of all values lies, as far as buckets tell; None where there are none.

    Within a bucket values are taken to be spread evenly, as Prometheus' histogram_quantile does.
    """
    wanted, before = part * sum(counts), 0
    if not wanted:
        return None
    for place, count in enumerate(counts[:-1]):
        if before + count >= wanted:
            low = bounds[place - 1] if place else 0.0
            return low + (bounds[place] - low) * (wanted - before) / count
        before += count
    return bounds[-1]


def _matches(metric: Metric, name: str, values: tuple[str, ...], labels: Mapping[str, str]) -> bool:
    return name == metric.name and all(values[metric.labels.index(label)] == want for label, want in labels.items())


def _calls(rates: Rates) -> dict[str, Any]:
    by_status = rates.by_label(frontend_metrics.CALL_DURATION, "grpc.status")
    by_method = rates.by_label(frontend_metrics.CALL_DURATION, "grpc.method")
    return {
        "per_second": sum(by_status.values()),
        "under_way": round(rates.gauge(frontend_metrics.CALLS_UNDER_WAY)),
        "failed_per_second": sum(rate for status, rate in by_status.items() if status != "OK"),
        "by_status": by_status,
        "by_method": {method.removeprefix(_OWN_PACKAGE): rate for method, rate in by_method.items()},
        "latency_seconds": rates.quantiles(frontend_metrics.CALL_DURATION),
    }


def _process(process: GatheredProcess, before: Gathered, rates: Rates) -> dict[str, Any]:
    then = next((each for each in before.processes if each.pid == process.pid), process)
    return {
        "name": process.name,
        "kind": process.kind,
        "model": process.model,
        "pid": process.pid,
        "state": process.state,
        "uptime_seconds": process.uptime_seconds,
        "restarts": process.restarts,
        "resident_bytes": process.resident_bytes,
        "cpu_cores": (process.cpu_seconds - then.cpu_seconds) / rates.seconds,
        "gpu_bytes": rates.gauge(worker_metrics.GPU_PROCESS_MEMORY, process=process.name) or None,
    }


def _model(model: GatheredModel, rates: Rates) -> dict[str, Any]:
    cache = rates.gauge(worker_metrics.CACHE_SIZE, model=model.name)
    return {
        "name": model.name,
        "revision": model.revision,
        "dtype": model.dtype,
        "device": model.device,
        "layers": model.layers,
        "heads": model.heads,
        "tasks": model.tasks,
        "state": model.state,
        "workers": model.workers,
        "workers_alive": model.workers_alive,
        "queue_tokens": {
            priority: round(rates.gauge(worker_metrics.QUEUE_TOKENS, model=model.name, priority=priority))
            for priority in ("interactive", "bulk")
        },
        "queue_seconds": rates.gauge(worker_metrics.QUEUE_WAIT, model=model.name),
        "batch_fill": rates.mean(worker_metrics.BATCH_FILL, model=model.name),
        "batches_per_second": rates.per_second(worker_metrics.BATCH_SIZE, model=model.name),
        "texts_per_second": rates.per_second(worker_metrics.BATCH_TEXTS, model=model.name),
        "tokens_per_second": _tokens_per_second(rates, model=model.name),
        "compute_seconds": rates.quantiles(worker_metrics.COMPUTE_DURATION, model=model.name),
        "generating": round(rates.gauge(worker_metrics.GENERATIONS, model=model.name)),
        "cache_fill": rates.gauge(worker_metrics.CACHE_USED, model=model.name) / cache if cache else None,
    }


def _tokens_per_second(rates: Rates, **labels: str) -> float:
    """Return how many tokens were computed, those that were generated too."""
    generated = rates.per_second(worker_metrics.GENERATED_TOKENS, **labels)
    return rates.total_per_second(worker_metrics.BATCH_SIZE, **labels) + generated
