from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from bertstream.server.admin.prometheus import prometheus_name
from bertstream.workers.measuring import frontend_metrics, supervisor_metrics
from bertstream.workers.measuring.catalog import CATALOG
from bertstream.workers.measuring.declarations import Metric
from bertstream.workers.measuring.snapshots import Distribution, Exemplar, Snapshot, Value
from tests.server.admin.support import app, gathered
from tests.support.asgi import request

OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}
METHOD = "bertstream.v1.EncodingService/EncodeTexts"
COUNTS = tuple(range(len(frontend_metrics.CALL_DURATION.buckets) + 1))
SNAPSHOT = Snapshot(
    (Value(frontend_metrics.CALLS_STARTED.name, (METHOD,), 7), Value(supervisor_metrics.UPTIME.name, (), 2.5)),
    (
        Distribution(
            frontend_metrics.CALL_DURATION.name,
            (METHOD, "OK"),
            COUNTS,
            1.5,
            (Exemplar(3, 0.00007, 1000.0, (("trace_id", "ab"), ("request_id", "cd"))),),
        ),
    ),
)


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (frontend_metrics.CALL_DURATION, "grpc_server_call_duration_seconds"),
        (frontend_metrics.CALL_SENT, "grpc_server_call_sent_total_compressed_message_size_bytes"),
        (frontend_metrics.CALLS_STARTED, "grpc_server_call_started"),
        (Metric("bertstream.part", "gauge", "1", ""), "bertstream_part_ratio"),
        (Metric("bertstream.part", "histogram", "1", ""), "bertstream_part"),
    ],
)
def test_names_are_made_by_the_rules_of_opentelemetry(metric: Metric, name: str) -> None:
    assert prometheus_name(metric) == name


async def test_counters_gauges_and_histograms_are_read_back() -> None:
    answer = await request(app(gathered(snapshot=SNAPSHOT)), "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in parse_text(answer.body.decode())}
    assert len(families) == len(CATALOG)
    (started,) = families["grpc_server_call_started"].samples
    assert (started.name, started.labels, started.value) == (
        "grpc_server_call_started_total",
        {"grpc_method": METHOD},
        7,
    )
    assert families["bertstream_uptime_seconds"].samples[0].value == 2.5
    samples = families["grpc_server_call_duration_seconds"].samples
    buckets = [each.value for each in samples if each.name.endswith("_bucket")]
    assert buckets == [sum(COUNTS[: place + 1]) for place in range(len(COUNTS))]
    assert [each.value for each in samples if each.name.endswith("_count")] == [sum(COUNTS)]
    assert [each.value for each in samples if each.name.endswith("_sum")] == [1.5]


async def test_openmetrics_has_exemplars_and_units() -> None:
    answer = await request(app(gathered(snapshot=SNAPSHOT)), "/metrics", OPENMETRICS)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    parse: Any = parse_openmetrics
    families = {family.name: family for family in parse(answer.body.decode())}
    duration = families["grpc_server_call_duration_seconds"]
    assert duration.unit == "seconds"
    found = [each for each in duration.samples if each.exemplar]
    assert [(each.labels["le"], each.exemplar.value) for each in found if each.exemplar] == [("0.0001", 0.00007)]
    assert found[0].exemplar is not None
    assert found[0].exemplar.labels == {"trace_id": "ab", "request_id": "cd"}
    assert float(str(found[0].exemplar.timestamp)) == 1000.0


async def test_without_an_answer_of_the_supervisor_there_are_no_metrics() -> None:
    answer = await request(app(ConnectionError("gone")), "/metrics")
    assert (answer.status, answer.json["code"]) == (503, 14)
