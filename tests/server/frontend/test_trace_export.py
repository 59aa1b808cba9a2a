"""The export of traces, beside collectors that refuse, never answer, or fail."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from bertstream.server.core import tracing
from bertstream.server.core.tracing import Parent, Tracer
from bertstream.server.frontend.trace_export import MOST_WAITING, TraceExport, begin_export
from bertstream.server.otlp import url_of
from bertstream.server.settings import TracingSettings
from tests.support.collector import collecting
from tests.support.server import eventually


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    """Keep the levels of loggers that an export sets."""
    loggers = [logging.getLogger(name) for name in ("opentelemetry", "urllib3")]
    levels = [each.level for each in loggers]
    yield
    for each, level in zip(loggers, levels, strict=True):
        each.setLevel(level)


class Exporter(SpanExporter):
    """Keeps spans, or fails."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.asked = 0  # how often
        self.fails: Exception | SpanExportResult | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            if isinstance(self.fails, Exception):
                raise self.fails
            self.spans += spans
            return self.fails or SpanExportResult.SUCCESS
        finally:
            self.asked += 1


def trace(export: TraceExport, parts: int = 1, parent: Parent | None = None) -> None:
    """Have a call with some parts traced."""
    with Tracer(1.0, export.put).begin("call", parent):
        for _ in range(parts):
            with tracing.span("part") as part:
                part.set(tokens=3)
                part.fail("OVERLOADED")


def make(exporter: SpanExporter) -> TraceExport:
    return TraceExport(exporter, Resource({"service.name": "x"}), "1.0")


def test_spans_come_as_opentelemetry_has_them() -> None:
    with collecting() as collector:
        export = begin_export(TracingSettings(collector.endpoint, 1.0), "1.2", "frontend-0")
        trace(export, parent=Parent(0xABC, 0xDEF, sampled=True))
        export.close(60.0)
        root, part = collector.spans
    assert (root.trace_id, root.parent_id) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert (part.trace_id, part.parent_id) == (root.trace_id, root.span_id)
    assert part.attributes == {"bertstream.tokens": 3, "error.type": "OVERLOADED"}
    assert (root.error, part.error) == ("", "OVERLOADED")
    assert abs(root.end - time.time()) < 10
    assert root.resource["service.instance.id"].endswith("/frontend-0")
    assert root.resource["service.version"] == "1.2"


def test_the_variables_of_opentelemetry_say_what_options_leave_open(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "encoders")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        export = begin_export(TracingSettings("", 1.0), "1.2", "frontend-0")
        trace(export)
        export.close(60.0)
    assert collector.spans[0].resource["service.name"] == "encoders"
    assert collector.spans[0].resource["deployment.environment.name"] == "test"


def test_what_was_left_out_is_counted_in_the_whole() -> None:
    exporter = Exporter()
    export = make(exporter)
    trace(export, parts=tracing.MOST_SPANS + 4)
    export.start()
    export.close(60.0)
    assert len(exporter.spans) == tracing.MOST_SPANS
    assert (exporter.spans[0].attributes or {})["bertstream.spans_left_out"] == 5


def test_no_more_wait_than_may() -> None:
    export = make(Exporter())  # whose thread does not run
    each = 1 + tracing.MOST_SPANS // 2
    for _ in range(MOST_WAITING // each + 3):
        trace(export, parts=each - 1)
    assert export.dropped == 3


def test_a_collector_that_is_not_there_costs_nothing_and_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # which does not listen, and so refuses
        export = begin_export(TracingSettings(f"http://127.0.0.1:{taken.getsockname()[1]}", 1.0), "1", "f")
        began = time.monotonic()
        for _ in range(100):
            trace(export)
        assert time.monotonic() - began < 10.0
        time.sleep(0.7)
        trace(export)
        began = time.monotonic()
        export.close(1.0)
        assert time.monotonic() - began < 30.0
        eventually(lambda: not export.is_alive(), "the end of the export")
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["WARNING"]


def test_a_collector_that_never_answers_does_not_delay_the_end() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        export = begin_export(TracingSettings(f"http://127.0.0.1:{silent.getsockname()[1]}", 1.0), "1", "f")
        trace(export)
        time.sleep(0.7)
        began = time.monotonic()
        trace(export)
        export.close(0.5)
        assert time.monotonic() - began < 30.0
        assert export.daemon  # or a process would wait for it
    eventually(lambda: not export.is_alive(), "the end of the thread")


def test_it_says_once_that_traces_are_dropped_and_once_that_they_are_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    exporter = Exporter()
    export = make(exporter)
    export.start()
    for number, fails in enumerate((OSError("no route"), SpanExportResult.FAILURE, None, None), 1):
        exporter.fails = fails
        trace(export)
        eventually(lambda count=number: exporter.asked == count, "the export")  # type: ignore[misc]
    assert len(exporter.spans) == 3 * 2  # none of those that an error has kept back
    export.close(60.0)
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("trace_export")]
    assert lines == ["the collector does not take traces; they are dropped until it does", "traces are exported again"]


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
        ("https://otel.example/otlp/v1/traces", "https://otel.example/otlp/v1/traces"),
    ],
)
def test_a_path_is_added_where_there_is_none(endpoint: str, url: str) -> None:
    assert url_of(endpoint, "traces") == url
