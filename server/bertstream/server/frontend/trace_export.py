"""Exports finished traces over OTLP from a thread of its own, so that no collector can delay a call or the drain.

It is imported only where traces are exported.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from bertstream.server.core.tracing import RecordedSpan, Trace
from bertstream.server.otlp import own_resource, silence_exporters, url_of
from bertstream.server.settings import TracingSettings

log = logging.getLogger(__name__)

MOST_WAITING = 16_384  # spans that wait to be exported; the traces of more are dropped
_BATCH = 2048  # spans in one message
_PAUSE_SECONDS = 0.5  # in which traces gather
_TELL_SECONDS = 60.0  # between lines about dropped traces
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NANOSECONDS = 10**9


class TraceExport(threading.Thread):
    """The queue of finished traces, and the thread that exports them."""

    def __init__(self, exporter: SpanExporter, resource: Resource, version: str) -> None:
        super().__init__(name="trace-export", daemon=True)  # which may hang in a collector that never answers
        self._exporter = exporter
        self._resource = resource
        self._scope = InstrumentationScope("bertstream.server", version)
        self._waiting: deque[Trace] = deque()
        self._spans = 0
        self._lock = threading.Lock()
        self._came, self._closing = threading.Event(), threading.Event()
        self._given_up = False
        self._failing = False
        self.dropped = 0  # traces
        self._told = 0  # of these
        self._tell_at = 0.0

    def put(self, trace: Trace) -> None:
        """Take a trace, or drop it where too many wait. Returns at once."""
        with self._lock:
            if self._spans + len(trace.spans) > MOST_WAITING:
                self.dropped += 1
                return
            self._spans += len(trace.spans)
            self._waiting.append(trace)
        self._came.set()

    def close(self, seconds: float) -> None:
        """Export what waits, but give up after so many seconds."""
        self._closing.set()
        self._came.set()
        self.join(seconds)
        self._given_up = True
        if self.is_alive():
            log.warning("the collector did not take the last traces within %g s", seconds)
        self._exporter.shutdown()

    def run(self) -> None:
        """Export until closed; every failure leaves the traces of one message out."""
        while not self._closing.is_set() or (self._waiting and not self._given_up):
            self._came.wait()
            self._closing.wait(_PAUSE_SECONDS)
            self._came.clear()
            while not self._given_up and (taken := self._take()):
                self._export(taken)
            self._tell_dropped()

    def _tell_dropped(self) -> None:
        now = time.monotonic()
        if self.dropped > self._told and now >= self._tell_at:
            log.warning("%d traces were dropped, since too many wait for the collector", self.dropped - self._told)
            self._told, self._tell_at = self.dropped, now + _TELL_SECONDS

    def _take(self) -> list[Trace]:
        """Take the oldest traces, at least one where any waits, of about as many spans as one message has."""
        taken: list[Trace] = []
        with self._lock:
            spans = 0
            while self._waiting and spans < _BATCH:
                taken.append(self._waiting.popleft())
                spans += len(taken[-1].spans)
            self._spans -= spans
        return taken

    def _export(self, traces: Sequence[Trace]) -> None:
        try:
            spans = [each for trace in traces for each in readable(trace, self._resource, self._scope)]
            done = self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception:  # whatever it is, the thread goes on
            log.debug("could not export traces", exc_info=True)
            done = False
        if done is self._failing and not self._given_up:  # said once, not with every message
            self._failing = not done
            if done:
                log.info("traces are exported again")
            else:
                log.warning("the collector does not take traces; they are dropped until it does")


def begin_export(settings: TracingSettings, version: str, frontend: str) -> TraceExport:
    """Return the running export of a frontend; what the settings leave open, OTEL_* variables say."""
    silence_exporters()
    exporter = OTLPSpanExporter(endpoint=url_of(settings.endpoint, "traces"))
    export = TraceExport(exporter, own_resource(version, frontend), version)
    export.start()
    return export


def readable(trace: Trace, resource: Resource, scope: InstrumentationScope) -> Iterator[ReadableSpan]:
    """Yield the spans of a trace as OpenTelemetry has them; the first is the whole call."""
    state = TraceState.from_header([trace.parent.state]) if trace.parent and trace.parent.state else TraceState()

    contexts = {span.ids[1]: SpanContext(trace.trace_id, span.ids[1], False, _SAMPLED, state) for span in trace.spans}
    if trace.parent:
        contexts[trace.parent.span_id] = SpanContext(trace.trace_id, trace.parent.span_id, True, _SAMPLED, state)

    def at(seconds: float) -> int:
        return int((trace.epoch + seconds) * _NANOSECONDS)

    if trace.left_out:
        trace.root.set(spans_left_out=trace.left_out)
    for span in trace.spans:
        is_root = span is trace.root
        yield ReadableSpan(
            span.name,
            contexts[span.ids[1]],
            contexts.get(span.parent_id),
            resource,
            _attributes(span),
            [Event(name, None, at(seconds)) for name, seconds in span.events],
            kind=SpanKind.SERVER if is_root else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=at(span.start),
            end_time=at(span.end),
            instrumentation_scope=scope,
        )


def _attributes(span: RecordedSpan) -> dict[str, str | int | float | bool]:
    """Return the attributes by their full names: those without a dot are ours."""
    named = {name if "." in name else f"bertstream.{name}": value for name, value in span.attributes.items()}
    return named | ({"error.type": span.error} if span.error else {})
