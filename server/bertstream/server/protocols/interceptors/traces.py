"""Traces each call: the span of the whole, within the caller's span where its metadata names one.

Sources: W3C Trace Context (https://www.w3.org/TR/trace-context), and OpenTelemetry's semantic conventions for spans of
RPC and of HTTP servers (https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans, …/semconv/http/http-spans).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from bertstream.server.core.tracing import Parent, Span, Tracer
from bertstream.server.protocols.call import Call
from bertstream.server.protocols.interceptors.links import Link, Proceed

# The statuses that are a server's failures; with the others it did what it should.
SERVER_FAILURES = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
)
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MOST_STATE = 512  # characters of `tracestate` that have to be passed on


def trace_call(tracer: Tracer) -> Link:
    """Return the link that traces calls; it belongs outside all links whose time or lines in the log are to count."""

    async def tracing_call(call: Call, proceed: Proceed) -> Any:
        with tracer.begin(call.method, parent_of(call.metadata)) as span:
            if not span.recorded:
                return await proceed()
            call.trace_id, cancelled = f"{span.ids[0]:032x}", False
            try:
                return await proceed()
            except asyncio.CancelledError:
                cancelled = True
                raise
            finally:
                _describe(span, call, call.ended(cancelled=cancelled))

    return tracing_call


def _describe(span: Span, call: Call, code: str) -> None:
    span.set(**call.attributes(code), request_id=call.request_id, caller=call.caller.name)
    if code in SERVER_FAILURES:
        span.fail(code)


def parent_of(metadata: Mapping[str, str | bytes]) -> Parent | None:
    """Return the caller's span; None where the metadata names none, or one that is not valid."""
    found = _TRACEPARENT.fullmatch(str(metadata.get("traceparent", "")))
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    state = str(metadata.get("tracestate", ""))
    return Parent(
        int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & 1), state if len(state) <= _MOST_STATE else ""
    )
