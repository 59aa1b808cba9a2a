from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any

import pytest

from bertstream.server.core.callers import Caller
from bertstream.server.core.tracing import Parent, Trace, Tracer, current
from bertstream.server.protocols.interceptors.traces import parent_of, trace_call

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
IDS = int(TRACE, 16), int(SPAN, 16)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", Parent(*IDS, sampled=True)),
        (f"00-{TRACE}-{SPAN}-00", Parent(*IDS, sampled=False)),
        (f"00-{TRACE}-{SPAN}-03", Parent(*IDS, sampled=True)),  # other flags are for others
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", Parent(*IDS, sampled=True)),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
        ("", None),
    ],
)
def test_a_traceparent_is_valid_as_a_whole_or_ignored(given: str, expected: Parent | None) -> None:
    assert parent_of({"traceparent": given}) == expected


def test_a_tracestate_is_passed_on_unless_it_is_very_long() -> None:
    metadata = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=value"}
    found, cut = parent_of(metadata), parent_of(metadata | {"tracestate": "a=" + "b" * 600})
    assert found is not None
    assert cut is not None
    assert (found.state, cut.state) == ("vendor=value", "")


def test_without_metadata_there_is_no_parent() -> None:
    assert parent_of({}) is None
    assert parent_of({"traceparent": b"\xff"}) is None


class FakeCall:
    """What the link reads of a call."""

    method, request_id, caller = "test.v1.Ours/Unary", "the-id", Caller("key")

    def __init__(self, code: str = "OK", **metadata: str) -> None:
        self.metadata = metadata
        self.trace_id = ""
        self._code = code

    def ended(self, *, cancelled: bool) -> str:
        return "CANCELLED" if cancelled else self._code

    def attributes(self, code: str) -> dict[str, str]:
        return {"of.the.protocol": code}


async def traced(call: Any, error: BaseException | None = None) -> Trace:
    traces: list[Trace] = []

    async def proceed() -> str:
        if error:
            raise error
        return "the answer"

    with pytest.raises(type(error)) if error else nullcontext():
        assert await trace_call(Tracer(1.0, traces.append))(call, proceed) == "the answer"
    (trace,) = traces
    return trace


async def test_the_span_of_a_call_says_what_was_called_and_how_it_ended() -> None:
    call = FakeCall(traceparent=f"00-{TRACE}-{SPAN}-01")
    trace = await traced(call)
    assert call.trace_id == TRACE  # for whoever counts calls
    assert (trace.root.name, trace.trace_id, trace.root.parent_id) == (FakeCall.method, *IDS)
    assert trace.root.attributes == {"of.the.protocol": "OK", "request_id": "the-id", "caller": "key"}


@pytest.mark.parametrize(
    ("code", "error", "expected", "failed"),
    [
        ("OK", None, "OK", ""),
        ("INVALID_ARGUMENT", ValueError(), "INVALID_ARGUMENT", ""),
        ("RESOURCE_EXHAUSTED", ValueError(), "RESOURCE_EXHAUSTED", ""),
        ("UNAVAILABLE", ValueError(), "UNAVAILABLE", "UNAVAILABLE"),
        ("INTERNAL", ValueError(), "INTERNAL", "INTERNAL"),
        ("OK", asyncio.CancelledError(), "CANCELLED", ""),
    ],
)
async def test_only_what_the_server_failed_at_is_an_error(
    code: str, error: BaseException | None, expected: str, failed: str
) -> None:
    trace = await traced(FakeCall(code), error)
    assert trace.root.attributes["of.the.protocol"] == expected
    assert trace.root.error == failed


async def test_a_call_that_is_not_traced_names_no_trace_as_an_example() -> None:
    call, traces = FakeCall(traceparent=f"00-{TRACE}-{SPAN}-00"), list[Trace]()

    async def proceed() -> None:
        assert current().ids[0] == IDS[0]

    link: Any = trace_call(Tracer(1.0, traces.append))
    await link(call, proceed)
    assert (call.trace_id, traces) == ("", [])
