from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource

from bertstream.server.admin import otlp
from bertstream.server.admin.otlp import metric_push, metrics_data
from bertstream.server.otlp import own_resource, url_of
from bertstream.server.settings import OtlpSettings
from bertstream.workers.measuring import frontend_metrics as metrics
from bertstream.workers.measuring.snapshots import Distribution, Exemplar, Snapshot, Value
from bertstream.workers.process.control import NoAnswer
from tests.server.admin.support import gathered, gatherings
from tests.support.collector import Collector, collecting
from tests.support.waiting import until

METHOD = "bertstream.v1.EncodingService/EncodeTexts"
COUNTS = tuple(range(len(metrics.CALL_DURATION.buckets) + 1))
TRACE = "0af7651916cd43dd8448eb211c80319c"
SNAPSHOT = Snapshot(
    (Value(metrics.CALLS_STARTED.name, (METHOD,), 7), Value(metrics.STREAMS.name, (), 2)),
    (
        Distribution(
            metrics.CALL_DURATION.name,
            (METHOD, "OK"),
            COUNTS,
            1.5,
            (
                Exemplar(3, 0.00007, 1000.0, (("trace_id", TRACE), ("request_id", "ab"))),
                Exemplar(4, 0.00014, 1000.5, (("request_id", "cd"),)),
            ),
        ),
    ),
)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as started:
        yield started


def pushed(collector: Collector) -> dict[str, Any]:
    (resource,) = collector.pushes[-1].resource_metrics
    return {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}


async def test_a_collector_gets_what_was_counted(collector: Collector) -> None:
    push = metric_push(OtlpSettings(collector.endpoint), gatherings(gathered(snapshot=SNAPSHOT)))
    await push.push()
    found = pushed(collector)
    assert set(found) == {metrics.CALLS_STARTED.name, metrics.STREAMS.name, metrics.CALL_DURATION.name}
    started = found[metrics.CALLS_STARTED.name]
    assert (started.unit, started.sum.is_monotonic, started.sum.aggregation_temporality) == ("{call}", True, 2)
    (point,) = started.sum.data_points
    assert [(each.key, each.value.string_value) for each in point.attributes] == [("grpc.method", METHOD)]
    assert (point.as_double, point.start_time_unix_nano, point.time_unix_nano) == (7, 988 * 10**9, 1000 * 10**9)
    assert found[metrics.STREAMS.name].gauge.data_points[0].as_double == 2
    (histogram,) = found[metrics.CALL_DURATION.name].histogram.data_points
    assert (tuple(histogram.bucket_counts), histogram.count, histogram.sum) == (COUNTS, sum(COUNTS), 1.5)
    assert tuple(histogram.explicit_bounds) == metrics.CALL_DURATION.buckets
    assert not histogram.HasField("min")
    assert not histogram.HasField("max")
    traced, other = histogram.exemplars
    assert (traced.trace_id.hex(), traced.as_double, other.trace_id) == (TRACE, 0.00007, b"")
    assert other.filtered_attributes[0].value.string_value == "cd"
    attributes = {
        each.key: each.value.string_value for each in collector.pushes[-1].resource_metrics[0].resource.attributes
    }
    assert (attributes["service.name"], attributes["service.version"]) == ("bertstream", "0.1.0")


async def test_it_is_pushed_again_and_once_more_in_the_end(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "LAST_SECONDS", 60.0)
    pushing = asyncio.create_task(metric_push(OtlpSettings(collector.endpoint, 0.05), gatherings()).run())
    await until(lambda: len(collector.pushes) >= 2)
    pushing.cancel()
    before = len(collector.pushes)
    await asyncio.wait((pushing,))
    assert len(collector.pushes) > before


async def test_a_collector_that_refuses_is_told_of_once(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    collector.answer = 400
    push = metric_push(OtlpSettings(collector.endpoint), gatherings())
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            await push.push()
        collector.answer = 200
        for _ in range(2):
            await push.push()
    assert [each.getMessage() for each in caplog.records if each.name.startswith("bertstream")] == [
        "the collector does not take metrics; they are pushed again until it does",
        "metrics are pushed again",
    ]


async def test_nothing_is_pushed_while_nothing_is_gathered(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    await metric_push(OtlpSettings(collector.endpoint), gatherings(NoAnswer("busy"))).push()
    assert collector.pushes == []
    assert "metrics are not pushed: the supervisor does not answer" in caplog.text


async def test_a_collector_that_never_answers_keeps_nothing_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "LAST_SECONDS", 0.2)
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        pushing = asyncio.create_task(metric_push(OtlpSettings(endpoint, seconds=60.0), gatherings(gathered())).run())
        await asyncio.sleep(0)
        pushing.cancel()  # which pushes once more
        with pytest.raises(asyncio.CancelledError):
            await pushing
        (pushes,) = (thread for thread in threading.enumerate() if thread.name == "push" and thread not in before)
        assert pushes.daemon
    await until(lambda: not pushes.is_alive())


def test_a_url_without_a_path_gets_that_of_otlp() -> None:
    assert url_of("http://a:4318/", "metrics") == "http://a:4318/v1/metrics"
    assert url_of("http://a/otlp/v1/metrics", "metrics") == "http://a/otlp/v1/metrics"


def test_a_server_without_any_calls_pushes_what_there_is() -> None:
    (resource,) = metrics_data(gathered(), Resource({})).resource_metrics
    assert list(resource.scope_metrics[0].metrics) == []


def test_variables_add_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    assert own_resource("1", "h:1").attributes["deployment.environment"] == "test"
